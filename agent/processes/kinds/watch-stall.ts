import type { Clock } from '../../platform/clock.ts'

/** The load of each GPU in percent; null where it cannot be told. */
export type ReadGpuLoad = (signal: AbortSignal) => Promise<readonly (number | null)[] | null>

type StallContext = {
  readonly stallMs: number
  /** Changes with every sign of life: the length of the output, for example. */
  readonly signs: () => number | string
  /** False while there is nothing to do: then silence means nothing. */
  readonly isDue?: () => boolean
  readonly readGpuLoad: ReadGpuLoad
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** A driver that is merely asked shows some percent. */
const BUSY_PERCENT = 5
const LONGEST_LOOK_MS = 30_000

/**
 * Resolves when a job has neither given a sign of life nor used a GPU for `stallMs`: one that hangs with its memory held
 * costs as much as one that works. The GPUs are the whole box's, so another busy job hides it.
 * @returns what the GPUs were doing, to complete a sentence
 * @throws the signal's reason
 */
export const untilStalled = async (context: StallContext): Promise<string> => {
  const { stallMs, signs, isDue = () => true, clock, signal } = context
  let last = signs()
  let aliveMs = clock.monotonicMs()
  for (;;) {
    await clock.sleep(lookEveryMs(stallMs), signal)
    const load = await context.readGpuLoad(signal)
    const now = signs()
    const known = load?.filter((percent) => percent !== null) ?? []
    if (now !== last || !isDue() || known.some((percent) => percent >= BUSY_PERCENT))
      aliveMs = clock.monotonicMs()
    last = now
    if (clock.monotonicMs() - aliveMs < stallMs) continue
    return known.length === 0
      ? 'and the GPU could not be asked, so its silence alone counts'
      : 'and the GPU is idle'
  }
}

/** Resolves at the next sign of life. @throws the signal's reason */
export const untilAlive = async (
  context: Pick<StallContext, 'stallMs' | 'signs' | 'clock' | 'signal'>,
): Promise<void> => {
  const last = context.signs()
  while (context.signs() === last) await context.clock.sleep(lookEveryMs(context.stallMs), context.signal)
}

const lookEveryMs = (stallMs: number): number => Math.min(LONGEST_LOOK_MS, Math.ceil(stallMs / 10))
