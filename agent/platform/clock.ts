import { setTimeout as delay } from 'node:timers/promises'

/** Time as a parameter: tests move it, and nothing measures a duration with the wall clock. */
export type Clock = {
  /** Wall time, for display and records only. */
  readonly now: () => Date
  /** Monotonic milliseconds: never jumps when the wall clock is set. */
  readonly monotonicMs: () => number
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    signal?.throwIfAborted()
    try {
      await delay(ms, undefined, signal ? { signal } : {})
    } catch (error) {
      // node rejects with its own AbortError; the first cause is the signal's reason.
      signal?.throwIfAborted()
      throw error
    }
  },
}
