import { setTimeout as delay } from 'node:timers/promises'

/** Resolves after `ms`; rejects with the signal's reason when that aborts first. */
export const sleep = async (ms: number, signal: AbortSignal): Promise<void> => {
  signal.throwIfAborted()
  try {
    await delay(ms, undefined, { signal })
  } catch (error) {
    // node rejects with its own AbortError; the first cause is the signal's reason.
    signal.throwIfAborted()
    throw error
  }
}

/** Waits of a repeated attempt: doubling from 250 ms to 15 s, with a fifth of chance so that clients spread. */
export const backoffMs = (attempt: number): number =>
  Math.min(15_000, 250 * 2 ** Math.min(attempt, 10)) * (0.9 + Math.random() * 0.2)
