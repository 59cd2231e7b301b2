import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { ManagedProcess } from './managed-process.ts'
import type { PlannedProcess } from './planned-process.ts'
import { newRecord } from './process-record.ts'
import type { ProcessTable } from './process-table.ts'

/** A name that no manifest can give. */
export const ONE_OFF_PREFIX = 'exec.'

/** True for a process that was run once on request and belongs to no manifest. */
export const isOneOff = (name: string): boolean => name.startsWith(ONE_OFF_PREFIX)

/** Output is kept for whoever asks later, though not for ever. */
const ONE_OFFS_KEPT = 20

/**
 * Runs a process that no manifest names; those that ended earliest are forgotten when there are many.
 * @throws AgentError why it cannot be started
 */
export const runOneOff = async (
  plan: PlannedProcess,
  { table, signal }: { readonly table: ProcessTable; readonly signal: AbortSignal },
): Promise<ManagedProcess> => {
  for (const name of namesToForget(table)) {
    await table.drop(name, signal)
    rmSync(join(table.jobsFolder, name), { recursive: true, force: true })
  }
  const managed = table.enter(newRecord(plan))
  await managed.bring(plan, { signal: AbortSignal.any([signal, table.lifetime]), atBoot: false })
  const { problem, jobId } = managed.record()
  if (problem === null || jobId !== null) return managed
  await table.drop(plan.name, signal)
  throw new AgentError(problem.code, problem.message, { hint: problem.hint })
}

const namesToForget = (table: ProcessTable): readonly string[] =>
  table
    .all()
    .filter(([name, managed]) => isOneOff(name) && !managed.isAlive())
    .sort(([, one], [, other]) =>
      (one.record().startedAt ?? '') < (other.record().startedAt ?? '') ? 1 : -1,
    )
    .slice(ONE_OFFS_KEPT)
    .map(([name]) => name)
