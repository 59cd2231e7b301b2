import type { Clock } from '../../../agent/platform/clock.ts'

/** Time that passes from sleeper to sleeper, and only when the test lets it: a month takes as long as its events. */
export type SimClock = Clock & {
  nowMs(): number
  /** Wakes who sleeps until then, one after the other; `between` runs after each. */
  passTo(atMs: number, between?: () => void): Promise<void>
}

type Sleeper = { readonly atMs: number; wake(): void }

export const createSimClock = (startMs: number): SimClock => {
  let nowMs = startMs
  const sleepers = new Set<Sleeper>()

  return {
    now: () => new Date(nowMs),
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted()
        const sleeper: Sleeper = {
          atMs: nowMs + ms,
          wake: () => {
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', abort)
            resolve()
          },
        }
        const abort = (): void => {
          sleepers.delete(sleeper)
          reject(signal?.reason as Error)
        }
        signal?.addEventListener('abort', abort, { once: true })
        sleepers.add(sleeper)
      }),
    passTo: async (atMs, between = () => undefined) => {
      await settled()
      for (;;) {
        let next: Sleeper | undefined
        for (const one of sleepers) if (next === undefined || one.atMs < next.atMs) next = one
        if (next === undefined || next.atMs > atMs) break
        nowMs = Math.max(nowMs, next.atMs)
        next.wake()
        await settled()
        between()
      }
      nowMs = Math.max(nowMs, atMs)
      between()
    },
  }
}

/** Every promise that can go on without time has gone on: nothing here waits for the outside. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
