/** How fast bytes came lately. */
export type SpeedMeter = {
  readonly add: (bytes: number) => void
  readonly bytesPerSecond: () => number
}

const WINDOW_MS = 10_000
const SLICE_MS = 500

/** Counts in slices of half a second over the last ten seconds. */
export const createSpeedMeter = (nowMs: () => number): SpeedMeter => {
  let slices: { readonly at: number; bytes: number }[] = []
  let startedAt: number | undefined
  return {
    add: (bytes) => {
      const now = nowMs()
      startedAt ??= now
      const last = slices.at(-1)
      if (last && now - last.at < SLICE_MS) last.bytes += bytes
      else slices = [...slices.filter((slice) => now - slice.at < WINDOW_MS), { at: now, bytes }]
    },
    bytesPerSecond: () => {
      const now = nowMs()
      const bytes = slices
        .filter((slice) => now - slice.at < WINDOW_MS)
        .reduce((sum, slice) => sum + slice.bytes, 0)
      // In the first seconds the window is only as long as there was something to measure.
      const seconds = Math.min(WINDOW_MS, Math.max(SLICE_MS, now - (startedAt ?? now))) / 1000
      return bytes / seconds
    },
  }
}
