import type { Clock } from '../platform/clock.ts'
import type { JobSpec } from './job-records.ts'
import { findMarked } from './process-tree.ts'
import { shimMarker } from './shim/records.ts'
import { sendSignal } from './stop-tree.ts'

/** SIGTERM's ten seconds and SIGKILL's five after the first signal's own time; then the shim itself must be stuck. */
const LADDER_MS = 20_000

/**
 * Waits for a job that was asked to end. A shim that is stopped or stuck cannot end it: then the shim is killed, and
 * whoever follows the job finds its processes by their marker and ends them.
 * @param options.isAnswering false: the shim did not even hear the request
 */
export const endOverdue = async (
  gone: Promise<unknown>,
  options: {
    readonly spec: JobSpec
    readonly isAnswering: boolean
    readonly clock: Clock
    readonly signal: AbortSignal
  },
): Promise<void> => {
  const done = new AbortController()
  const limitMs = options.isAnswering ? options.spec.plan.spec.stop.timeout + LADDER_MS : 0
  const overdue = options.clock.sleep(limitMs, AbortSignal.any([options.signal, done.signal])).then(
    () => 'overdue',
    () => 'called off',
  )
  if ((await Promise.race([gone, overdue])) === 'overdue')
    for (const shim of findMarked(shimMarker(options.spec))) sendSignal(shim.pid, 'SIGKILL')
  await gone.finally(() => done.abort())
}
