import { existsSync } from 'node:fs'
import type { PythonInstallRow } from '../../shared/contract/python-records.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { atomicWrite } from '../platform/files.ts'
import type { PythonContext } from './context.ts'
import type { PythonFacts } from './inspect-python.ts'
import { createInstallHistory } from './install-history.ts'
import { takeInstallLock } from './install-lock.ts'
import { rollBack } from './install-transaction.ts'
import { isKept, keptPath } from './kept-snapshots.ts'
import { overlayPaths, overlayRoot } from './overlay.ts'

/** As many as a person looks through. */
const SHOWN = 50

/** The installs into a Python's overlay, newest first. */
export const listInstalls = (
  base: PythonFacts,
  context: Pick<PythonContext, 'folder' | 'db' | 'clock'>,
): readonly PythonInstallRow[] => {
  const root = overlayRoot(context.folder, base)
  return createInstallHistory(context.db, () => context.clock.now())
    .list(root, SHOWN)
    .map((install) => ({
      ...install,
      canRollBack: install.state === 'committed' && isKept(root, install.id),
    }))
}

/**
 * Brings the overlay back to what it was before an install; without an id, the last one. What came after it goes too.
 * @throws AgentError not_found, busy, io_error
 */
export const takeBackInstall = async (
  base: PythonFacts,
  context: PythonContext & { readonly id: string | null },
): Promise<PythonInstallRow> => {
  const paths = overlayPaths(overlayRoot(context.folder, base), base.version)
  if (!existsSync(paths.root)) throw nothingToTakeBack(null)
  const unlock = takeInstallLock(paths.lock)
  try {
    await rollBack(paths, { ...context, reason: 'the agent ended in the middle of the install' })
    const install = listInstalls(base, context).find(({ id, state }) =>
      context.id === null ? state === 'committed' : id === context.id,
    )
    if (install === undefined || !install.canRollBack) throw nothingToTakeBack(context.id)
    // From here on a crash is followed by the same two renames.
    atomicWrite(paths.journal, JSON.stringify({ id: install.id, snapshot: keptPath(paths.root, install.id) }))
    await rollBack(paths, { ...context, reason: 'taken back by hand' })
    return listInstalls(base, context).find(({ id }) => id === install.id) ?? install
  } finally {
    unlock()
  }
}

const nothingToTakeBack = (id: string | null): AgentError =>
  new AgentError(
    'not_found',
    id === null ? 'there is no install to take back' : `the install ${id} cannot be taken back`,
    { hint: 'agentctl python history shows which ones can.' },
  )
