import type { FileHandle } from 'node:fs/promises'

const FLUSH_BYTES = 2 ** 28

/** Has the disk write while the bytes still arrive, so that nobody waits for gigabytes of it at the end. */
export const createFlush = (handle: FileHandle) => {
  let unflushed = 0
  let underWay: Promise<void> | undefined
  const failures: unknown[] = []
  return {
    wrote: (bytes: number): void => {
      unflushed += bytes
      if (unflushed < FLUSH_BYTES || underWay !== undefined) return
      unflushed = 0
      underWay = handle
        .datasync()
        .catch((error: unknown) => failures.push(error))
        .then(() => (underWay = undefined))
    },
    /**
     * Waits for what is under way: the handle must not be closed under it. Throws what failed: the kernel says it once,
     * and the flush at the end would know nothing of it.
     */
    end: async (): Promise<void> => {
      await underWay
      if (failures.length > 0) throw failures[0]
    },
  }
}
