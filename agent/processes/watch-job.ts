import type { Clock } from '../platform/clock.ts'
import type { FoundJob } from './find-job.ts'
import { findJob } from './find-job.ts'
import type { JobSpec } from './job-records.ts'
import type { ShimConnection } from './shim-connection.ts'

/** How a job ended, once nothing of it lives. */
export type JobOutcome = Exclude<FoundJob, { kind: 'connected' | 'silent' }>

type WatchContext = {
  readonly folder: string
  readonly clock: Clock
  /** The agent's own end: the job goes on without it. */
  readonly signal: AbortSignal
  readonly onConnected: (connection: ShimConnection) => void
  readonly onSilent: () => void
}

const LOOK_AGAIN_MS = 1_000

/** Follows one job to its end, over lost connections and a shim that is stopped for a while. */
export const watchJob = async (
  job: { readonly spec: JobSpec; readonly found: FoundJob },
  context: WatchContext,
): Promise<JobOutcome> => {
  const { clock, signal } = context
  for (let { found } = job; ; found = await findJob(job.spec, context)) {
    if (found.kind === 'connected') {
      const { connection } = found
      const close = (): void => connection.close()
      signal.addEventListener('abort', close, { once: true })
      context.onConnected(connection)
      const exit = await connection.ended
      signal.removeEventListener('abort', close)
      connection.close()
      signal.throwIfAborted()
      if (exit) return { kind: 'ended', exit }
    } else if (found.kind === 'silent') {
      context.onSilent()
      await clock.sleep(LOOK_AGAIN_MS, signal)
    } else return found
  }
}
