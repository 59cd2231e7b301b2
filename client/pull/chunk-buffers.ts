import { CHUNK_BYTES } from '../../shared/contract/chunks.ts'

export type ChunkBuffers = {
  /** Memory for so many bytes. */
  readonly take: (bytes: number) => Buffer
  /** Gives memory back; whoever gives it does not touch it again. */
  readonly give: (buffer: Uint8Array) => void
}

/**
 * Memory for chunks, used again and again. With new memory for every chunk the collector works longer than the hashes:
 * it begins anew each time that some tens of megabytes outside of its heap have come.
 */
export const createChunkBuffers = (): ChunkBuffers => {
  const free: ArrayBufferLike[] = []
  return {
    // The header of a safetensors file may be longer than a chunk.
    take: (bytes) =>
      bytes > CHUNK_BYTES
        ? Buffer.allocUnsafeSlow(bytes)
        : Buffer.from(free.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES).buffer, 0, bytes),
    give: ({ buffer }) => {
      if (buffer.byteLength === CHUNK_BYTES) free.push(buffer)
    },
  }
}
