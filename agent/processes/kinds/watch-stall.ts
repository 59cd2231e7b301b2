import type { Problem } from '../../../shared/contract/errors.ts'
import { formatDuration } from '../../../shared/contract/units.ts'
import type { Clock } from '../../platform/clock.ts'
import { processProblem } from '../describe-end.ts'
import { logEnd } from '../shim/log-files.ts'

/** The load of each GPU in percent; null where it cannot be told. */
export type ReadGpuLoad = (signal: AbortSignal) => Promise<readonly (number | null)[] | null>

type StallContext = {
  readonly name: string
  readonly stallMs: number
  /** The process's folder, whose log grows with its output. */
  readonly folder: string
  readonly readGpuLoad: ReadGpuLoad
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** A driver that is merely asked shows some percent. */
const BUSY_PERCENT = 5
const LONGEST_LOOK_MS = 30_000

/**
 * Resolves with the problem of a job that has neither printed anything nor used a GPU for `stallMs`: a job that hangs
 * with its memory held costs as much as one that works. The GPUs are the whole box's, so another busy job hides it.
 * @throws the signal's reason
 */
export const watchStall = async (context: StallContext): Promise<Problem> => {
  const { name, stallMs, folder, clock, signal } = context
  const everyMs = Math.min(LONGEST_LOOK_MS, Math.ceil(stallMs / 10))
  let end = logEnd(folder)
  let aliveMs = clock.monotonicMs()
  for (;;) {
    await clock.sleep(everyMs, signal)
    const load = await context.readGpuLoad(signal)
    const grown = logEnd(folder)
    const known = load?.filter((percent) => percent !== null) ?? []
    if (grown !== end || known.some((percent) => percent >= BUSY_PERCENT)) aliveMs = clock.monotonicMs()
    end = grown
    if (clock.monotonicMs() - aliveMs < stallMs) continue
    const gpu =
      known.length === 0
        ? 'and the GPU could not be asked, so its silence alone counts'
        : 'and the GPU is idle'
    const message = `${name} has printed nothing for ${formatDuration(stallMs)}, ${gpu}; it was ended`
    return processProblem('process_stalled', { name, message })
  }
}
