import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import type { Chunk } from '../../shared/contract/chunks.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'

/** Chunks that came before their turn are kept up to this many; more are read from the file later. */
const MOST_WAITING = 8
const READ_BYTES = 2 ** 20

export type RunningHash = {
  /** Takes a chunk as it arrived; its memory is given back when it is no longer needed. */
  add(chunk: Chunk, bytes: Uint8Array): void
  /** The sha256 of the whole file; what did not come in turn is read from it. */
  finish(handle: FileHandle, context: { sizeBytes: number; signal: AbortSignal }): Promise<string>
}

/** The sha256 of a file whose chunks arrive nearly in order, so that it need not be read once more at the end. */
export const createRunningHash = ({ give }: Pick<ChunkBuffers, 'give'>): RunningHash => {
  const hash = createHash('sha256')
  const waiting = new Map<number, Uint8Array>()
  let at = 0
  const take = (bytes: Uint8Array): void => {
    hash.update(bytes)
    at += bytes.byteLength
  }
  const takeAndGive = (bytes: Uint8Array): void => {
    take(bytes)
    give(bytes)
  }
  return {
    add: ({ start }, bytes) => {
      if (start === at) takeAndGive(bytes)
      else if (waiting.size < MOST_WAITING) waiting.set(start, bytes)
      else give(bytes)
      for (let next = waiting.get(at); next; next = waiting.get(at)) {
        waiting.delete(at)
        takeAndGive(next)
      }
    },
    finish: async (handle, { sizeBytes, signal }) => {
      waiting.forEach(give)
      waiting.clear()
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, Math.max(1, sizeBytes - at)))
      while (at < sizeBytes) {
        signal.throwIfAborted()
        const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, sizeBytes - at), at)
        if (bytesRead === 0) break
        take(buffer.subarray(0, bytesRead))
      }
      return hash.digest('hex')
    },
  }
}
