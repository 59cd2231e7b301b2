import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../../agent/platform/clock.ts'

/** Real time that runs `speed` times as fast: for waits of minutes around programs and servers that are real. */
export const createScaledClock = (speed: number): Clock => {
  const startMs = performance.now()
  const monotonicMs = (): number => (performance.now() - startMs) * speed
  return {
    monotonicMs,
    now: () => new Date(Date.UTC(2026, 10, 1) + monotonicMs()),
    sleep: async (ms, signal) => {
      signal?.throwIfAborted()
      try {
        await delay(ms / speed, undefined, signal ? { signal } : {})
      } catch (error) {
        signal?.throwIfAborted()
        throw error
      }
    },
  }
}
