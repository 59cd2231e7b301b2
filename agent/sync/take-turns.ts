/** Runs one piece of work after another, in the order they were asked for. */
export type InTurn = (signal: AbortSignal, work: () => Promise<void>) => Promise<void>

/**
 * Turns for one thing that must not be done twice at a time. Waiting for one's turn ends with the signal at once; work
 * that has begun goes by the same signal itself, and is waited for until it has really ended.
 */
export const createTurns = (): InTurn => {
  let tail: Promise<unknown> = Promise.resolve()
  return (signal, work) => {
    let hasBegun = false
    const mine = tail.then(() => {
      signal.throwIfAborted()
      hasBegun = true
      return work()
    })
    tail = mine.catch(() => undefined)
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        if (!hasBegun) reject(signal.reason as Error)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      mine.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
    })
  }
}

/** Work that makes way when it is asked to: it then ends as if it had been done, and may be begun again. */
export const createInterruptible = (work: (signal: AbortSignal) => Promise<void>) => {
  let underWay: AbortController | undefined
  return {
    interrupt: (reason: Error): void => underWay?.abort(reason),
    run: async (signal: AbortSignal): Promise<void> => {
      const mine = new AbortController()
      underWay = mine
      try {
        await work(AbortSignal.any([signal, mine.signal]))
      } catch (error) {
        if (signal.aborted || !mine.signal.aborted) throw error
      } finally {
        underWay = undefined
      }
    },
  }
}
