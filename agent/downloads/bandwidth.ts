import type { Clock } from '../platform/clock.ts'

/** Leave to take bytes from the network, where there is a limit for all downloads together. */
export type Bandwidth = {
  /**
   * Resolves when a file may go on with so many bytes that have come. Files that wait take turns, however many connections
   * each has: one file with sixteen does not starve another with one. Rejects with the signal's reason.
   */
  take(file: string, bytes: number, signal: AbortSignal): Promise<void>
}

type Waiter = { readonly bytes: number; readonly signal: AbortSignal; readonly grant: () => void }

/** Time that was not used is made up for this long: a timer that fires late must not cost speed. */
const MADE_UP_MS = 100

/**
 * The limit, kept by holding bytes back once they are here: what a connection reads no further fills its window, and the sender slows
 * down. Each piece moves the moment at which the next one may go on by as long as the limit gives it.
 */
export const createBandwidth = (bytesPerSecond: number, clock: Clock): Bandwidth => {
  const files = new Map<string, Waiter[]>()
  let freeAtMs = -Infinity
  let isServing = false

  /** The first waiter of the file whose turn it is; the file goes to the end of the line. */
  const next = (): Waiter | undefined => {
    for (const [file, waiters] of files) {
      files.delete(file)
      const waiter = waiters.shift()
      if (waiters.length > 0) files.set(file, waiters)
      if (waiter && !waiter.signal.aborted) return waiter
    }
    return undefined
  }

  const serve = async (): Promise<void> => {
    for (let waiter = next(); waiter !== undefined; waiter = next()) {
      const waitMs = freeAtMs - clock.monotonicMs()
      if (waitMs > 0) await clock.sleep(waitMs)
      freeAtMs = Math.max(freeAtMs, clock.monotonicMs() - MADE_UP_MS) + (waiter.bytes / bytesPerSecond) * 1000
      waiter.grant()
    }
    isServing = false
  }

  return {
    take: (file, bytes, signal) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted()
        const abort = (): void => reject(signal.reason as Error)
        signal.addEventListener('abort', abort, { once: true })
        const grant = (): void => {
          signal.removeEventListener('abort', abort)
          resolve()
        }
        files.set(file, [...(files.get(file) ?? []), { bytes, signal, grant }])
        if (isServing) return
        isServing = true
        void serve() // Never rejects: it only waits, and answers whoever waits.
      }),
  }
}
