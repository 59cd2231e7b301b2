import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { runCommand } from '../platform/commands.ts'
import { atomicWrite, errorText, fileError, syncFolder } from '../platform/files.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { createInstallHistory } from './install-history.ts'
import type { KeepLimits } from './kept-snapshots.ts'
import { dropKept, KEEP_LIMITS, keptPath, trimKept } from './kept-snapshots.ts'
import type { OverlayPaths } from './overlay.ts'
import type { PythonPlan } from './plan-python.ts'
import { endStrayInstalls, INSTALL_MARK } from './stray-installs.ts'

/*
 * An install is a transaction, which pip's own is not: killed in the middle, pip leaves “~names” and dists without
 * metadata.
 *
 *   kept-ID.partial → kept-ID → journal.json → … pip, proof … → overlay on disk → journal removed
 *
 * While the journal is there, the snapshot is the truth: whoever finds it (this process after a failure, the next one
 * after a crash) puts the snapshot back by two renames, which can be repeated from any point. Removing the journal is
 * the moment from which the install stands, and its snapshot can take it back.
 */

type Journal = { readonly id: string; readonly snapshot: string }

/**
 * Runs `work` on the overlay and keeps its result, or puts the overlay back and throws what went wrong.
 * @throws what `work` throws; AgentError disk_full, io_error when no snapshot can be made (nothing was changed)
 */
export const inTransaction = async (
  paths: OverlayPaths,
  context: PythonContext & {
    readonly plan: Pick<PythonPlan, 'digest' | 'changes'>
    readonly work: () => Promise<void>
    readonly keep?: KeepLimits
  },
): Promise<void> => {
  const { plan } = context
  const id = randomBytes(6).toString('hex')
  const journal: Journal = { id, snapshot: keptPath(paths.root, id) }
  const history = createInstallHistory(context.db, () => context.clock.now())
  try {
    await makeSnapshot(paths, { ...context, to: journal.snapshot })
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'disk_full') throw error
    // Going back further than this install is worth less than the install.
    await dropKept(paths.root, () => false)
    await makeSnapshot(paths, { ...context, to: journal.snapshot })
  }
  atomicWrite(paths.journal, JSON.stringify(journal))
  history.began({ id, overlay: paths.root, digest: plan.digest, changes: plan.changes })
  try {
    await context.work()
    await flushToDisk(paths.env, { ...context, root: paths.root })
  } catch (error) {
    await rollBack(paths, { ...context, reason: errorText(error) })
    throw error
  }
  // In this order: a crash in between is still a rollback, and the record follows it.
  history.committed(id)
  rmSync(paths.journal)
  syncFolder(paths.root)
  await trimKept(paths.root, context.keep ?? KEEP_LIMITS)
}

/** Puts the overlay back to what the journal says; nothing when there is no journal. May be repeated. */
export const rollBack = async (
  paths: OverlayPaths,
  context: PythonContext & { readonly reason: string },
): Promise<boolean> => {
  // An agent that was killed leaves its pip running: it would write into what is being put back.
  await endStrayInstalls((mark) => mark === paths.root, context)
  const journal = readJournal(paths)
  const history = createInstallHistory(context.db, () => context.clock.now())
  if (journal !== undefined) {
    try {
      if (existsSync(journal.snapshot)) {
        if (existsSync(paths.env)) renameSync(paths.env, join(paths.root, `bad-${journal.id}`))
        renameSync(journal.snapshot, paths.env)
        syncFolder(paths.root)
      }
      rmSync(paths.journal)
      syncFolder(paths.root)
    } catch (error) {
      throw fileError(error, `cannot put ${paths.env} back`)
    }
    history.rolledBack(journal.id, context.reason)
    context.report({ type: 'python.rolled-back', subject: paths.env, data: { reason: context.reason } })
  }
  await dropKept(paths.root, history.isCommitted)
  await sweep(paths.root)
  return journal !== undefined
}

/** Removes what no journal speaks of: unfinished snapshots, replaced environments, downloaded wheels. */
const sweep = async (root: string): Promise<void> => {
  for (const name of readdirSync(root))
    if (/^(bad-[0-9a-f]{12}|kept-[0-9a-f]{12}\.partial|wheels)$/.test(name))
      await rm(join(root, name), { recursive: true, force: true })
}

const readJournal = (paths: OverlayPaths): Journal | undefined => {
  if (!existsSync(paths.journal)) return undefined
  try {
    return JSON.parse(readFileSync(paths.journal, 'utf8')) as Journal
  } catch (error) {
    throw new AgentError('state_damaged', `${paths.journal} cannot be read: ${errorText(error)}`, {
      hint: `Remove ${paths.root}; the next apply makes it again.`,
      cause: error,
    })
  }
}

const makeSnapshot = async (
  paths: OverlayPaths,
  context: PythonContext & { readonly to: string },
): Promise<void> => {
  const partial = `${context.to}.partial`
  try {
    await run(['cp', '-a', '--reflink=auto', '--', paths.env, partial], { ...context, root: paths.root })
    // Before anything is changed: the journal will trust the copy.
    await flushToDisk(partial, { ...context, root: paths.root })
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    throw error
  }
  renameSync(partial, context.to)
  syncFolder(paths.root)
}

/** Thousands of small files are written back together in the time that syncing some hundred one by one would take. */
const flushToDisk = (path: string, context: RunContext): Promise<void> =>
  run(['sync', '-f', '--', path], context)

type RunContext = PythonContext & { readonly root: string }

/** Marked, so that the agent that follows one that was killed ends it before it removes what it writes. */
const run = async (argv: readonly [string, ...string[]], context: RunContext): Promise<void> => {
  const result = await runCommand(argv, {
    env: { ...cleanEnvironment(context.environment), [INSTALL_MARK]: context.root },
    signal: context.signal,
  })
  if (result.exitCode === 0) return
  const said = result.stderr.trim().split('\n').slice(-2).join(' ')
  throw new AgentError(
    /No space left|quota exceeded/i.test(said) ? 'disk_full' : 'io_error',
    `cannot keep the overlay: ${said || `${argv[0]} ended with ${result.exitCode ?? result.signal ?? ''}`}`,
  )
}
