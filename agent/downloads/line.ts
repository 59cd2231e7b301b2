import type { TransferJob } from './transfer-job.ts'

/** One connection while it fetches one range, and how fast that goes. */
export type Line = {
  readonly job: TransferJob
  /** The first byte that is not written yet. */
  readonly position: () => number
  /** Where it stops; comes nearer when another connection takes over the rest. */
  readonly end: () => number
  readonly move: (position: number) => void
  readonly shorten: (end: number) => void
  /** Takes a sample of the position; called at a steady pace. */
  readonly sample: () => void
  /** Bytes per millisecond lately; undefined while there is too little to tell. */
  readonly speed: (windowMs: number) => number | undefined
  /** Milliseconds since the last byte; 0 before the first one. */
  readonly silentMs: () => number
  /** Waits for something that is not the network's doing: that time says nothing about the line. */
  readonly hold: (wait: Promise<void>) => Promise<void>
  /** Ends the request; what is missing goes back to the others. */
  readonly drop: (why: DropReason) => void
  readonly signal: AbortSignal
}

/** `slow` beside the others, `stalled` at the very end, `crawling` by any measure. */
export type DropReason = 'slow' | 'stalled' | 'crawling'

/** Not a failure of the source: this connection alone was given up. */
export class DroppedLine extends Error {
  readonly why: DropReason

  constructor(why: DropReason) {
    super(`the connection was too slow (${why})`)
    this.why = why
  }
}

/** Samples older than any window that is asked for. */
const MOST_SAMPLES = 64

export const createLine = (
  job: TransferJob,
  range: { readonly start: number; readonly end: number; readonly signal: AbortSignal },
): Line => {
  const { clock } = job
  let startedMs = clock.monotonicMs()
  let isHeld = false
  const stop = new AbortController()
  let position = range.start
  let end = range.end
  let movedMs: number | undefined
  let samples = [{ atMs: startedMs, position }]
  return {
    job,
    position: () => position,
    end: () => end,
    move: (to) => {
      position = to
      movedMs = clock.monotonicMs()
    },
    shorten: (to) => {
      end = to
    },
    sample: () => {
      samples = [...samples.slice(1 - MOST_SAMPLES), { atMs: clock.monotonicMs(), position }]
    },
    speed: (windowMs) => {
      const nowMs = clock.monotonicMs()
      if (isHeld || nowMs - startedMs < windowMs) return undefined
      const from = samples.findLast(({ atMs }) => nowMs - atMs >= windowMs) ?? samples[0]
      return from && (position - from.position) / (nowMs - from.atMs)
    },
    silentMs: () => (movedMs === undefined || isHeld ? 0 : clock.monotonicMs() - movedMs),
    hold: async (wait) => {
      isHeld = true
      try {
        await wait
      } finally {
        isHeld = false
        startedMs = clock.monotonicMs()
        samples = [{ atMs: startedMs, position }]
      }
    },
    drop: (why) => {
      stop.abort(new DroppedLine(why))
    },
    signal: AbortSignal.any([range.signal, stop.signal]),
  }
}
