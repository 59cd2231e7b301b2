import type { FileHandle } from 'node:fs/promises'
import { createFlush } from './flush.ts'
import { writeAll } from './write-all.ts'

export type FileWriter = {
  /** Writes a part in its turn; its memory must stay as it is until `written`. */
  readonly write: (bytes: Uint8Array, at: number) => void
  /** When all that was given has been written. @throws the first failure; after it nothing more is written */
  readonly written: () => Promise<void>
  /** Waits until nothing is under way, so that the handle can be closed. @throws as `written`, and what flushing failed with */
  readonly end: () => Promise<void>
}

/**
 * Writes the parts of one file one after the other: several at once wait for the file's lock in the kernel, spinning.
 * The disk begins with them while others still arrive.
 */
export const createFileWriter = (handle: FileHandle): FileWriter => {
  const flush = createFlush(handle)
  let last = Promise.resolve()
  return {
    write: (bytes, at) => {
      last = last.then(async () => {
        await writeAll(handle, bytes, at)
        flush.wrote(bytes.byteLength)
      })
      // Told by whoever waits for it; a chunk that breaks off has nobody waiting.
      last.catch(() => undefined)
    },
    written: () => last,
    end: async () => {
      try {
        await last
      } finally {
        await flush.end()
      }
    },
  }
}
