import type { Problem } from '../../shared/contract/errors.ts'
import type {
  BudgetRow,
  DownloadRow,
  HostRecord,
  ProcessRow,
  Progress,
  RunRecord,
  StatusRecord,
  SyncRow,
} from '../../shared/contract/records.ts'
import { isFinalRunState, UNHEALTHY_PROCESS_STATES } from '../../shared/contract/states.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import { withoutRepeats } from './make-plan.ts'
import type { StoredManifest } from './runs.ts'

/** The rooms' own words on their state, put on one screen. */
export type StatusParts = {
  readonly agent: StatusRecord['agent']
  readonly host: HostRecord
  readonly manifest: StoredManifest | undefined
  readonly run: RunRecord | undefined
  readonly downloads: readonly DownloadRow[]
  readonly processes: readonly ProcessRow[]
  readonly sync: readonly SyncRow[]
  readonly budget: BudgetRow
  readonly isLate: (sync: string) => boolean
  /** What is wrong with the agent itself: a quarantined state, for example. */
  readonly problems: readonly Problem[]
}

/** The status record; `healthy` only when nothing at all says otherwise. */
export const makeStatus = (parts: StatusParts): StatusRecord => {
  const { run } = parts
  const late = parts.sync
    .filter((row) => parts.isLate(row.name))
    .map((row) =>
      problemFrom(new AgentError('sync_late', `the sync ${row.name} is late: ${lastSuccess(row)}`), row.name),
    )
  // One that runs and was not proven ready, after a restart for instance, is not well either.
  const badProcess = parts.processes.some(
    ({ state, problem }) => UNHEALTHY_PROCESS_STATES.includes(state) || problem?.severity === 'error',
  )
  const problems = [
    ...parts.problems,
    ...fullDisks(parts.host),
    ...(run?.problems ?? []),
    ...[...parts.downloads, ...parts.processes, ...parts.sync].flatMap((row) => row.problem ?? []),
    ...late,
    ...(parts.budget.problem ? [parts.budget.problem] : []),
  ]
  return {
    agent: parts.agent,
    host: parts.host,
    manifest: parts.manifest
      ? { name: parts.manifest.name, digest: parts.manifest.digest, appliedAt: parts.manifest.appliedAt }
      : null,
    run: run ?? null,
    downloads: [...parts.downloads],
    processes: [...parts.processes],
    sync: [...parts.sync],
    budget: parts.budget,
    healthy:
      run?.state === 'ready' && !badProcess && late.length === 0 && parts.budget.state !== 'stop-failed',
    problems: [...withoutRepeats(problems)],
  }
}

/** Below this nothing can be written any more that anybody would miss. */
const FULL_BYTES = 2 ** 20

/** Output is lost and nothing is remembered, while every process goes on and looks well. */
const fullDisks = ({ disks }: HostRecord): readonly Problem[] =>
  disks
    .filter(({ totalBytes, freeBytes }) => totalBytes > 0 && freeBytes < FULL_BYTES)
    .map(({ path }) =>
      problemFrom(
        new AgentError(
          'disk_full',
          `the disk of ${path} is full: output of processes is lost, and nothing is kept`,
          {
            hint: 'Free some space: agentctl models and du say what takes it.',
          },
        ),
        path,
        'warning',
      ),
    )

/** A run that is under way with its progress as it is now; one that ended with what it ended with. */
export const withProgress = (run: RunRecord, progress: Progress): RunRecord =>
  isFinalRunState(run.state) ? run : { ...run, progress }

const lastSuccess = (row: SyncRow): string =>
  row.lastSuccessAt === null ? 'it never succeeded' : `its last success was at ${row.lastSuccessAt}`
