/** Wakes those who wait for a condition, each time something may have changed. */
export const createNotifier = () => {
  const waiting = new Set<() => void>()
  return {
    notify: (): void => {
      for (const check of waiting) check()
    },
    /** Resolves with the first value that is not undefined; rejects with the signal's reason. */
    until: <T>(read: () => T | undefined, signal: AbortSignal): Promise<T> =>
      new Promise((resolve, reject) => {
        const end = (): void => {
          waiting.delete(check)
          signal.removeEventListener('abort', onAbort)
        }
        const check = (): void => {
          const value = read()
          if (value === undefined) return
          end()
          resolve(value)
        }
        const onAbort = (): void => {
          end()
          reject(signal.reason as Error)
        }
        if (signal.aborted) {
          onAbort()
          return
        }
        waiting.add(check)
        signal.addEventListener('abort', onAbort, { once: true })
        check()
      }),
  }
}

/** Runs what it is given one after another. */
export const createQueue = () => {
  let last: Promise<unknown> = Promise.resolve()
  return <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work)
    // The next one does not care how this one went; whoever asked for it gets its failure.
    last = result.catch(() => undefined)
    return result
  }
}
