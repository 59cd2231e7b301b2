import type { ProviderClock } from '../../../shared/providers/provider.ts'

/** Time that passes only when somebody sleeps, and then at once: a month takes as long as its events. */
export const createManualClock = (startMs = Date.UTC(2026, 10, 1)): ProviderClock & { nowMs(): number } => {
  let atMs = startMs
  return {
    now: () => new Date(atMs),
    nowMs: () => atMs,
    monotonicMs: () => atMs,
    sleep: (ms, signal) => {
      signal?.throwIfAborted()
      atMs += ms
      return Promise.resolve()
    },
  }
}
