import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import type { ChunkHashes } from '../../shared/contract/records.ts'
import { CHUNK_BYTES } from '../../shared/contract/chunks.ts'
import type { SyncStore } from './sync-store.ts'
import { fingerprintOf } from './unit.ts'

export type HashChunks = (
  file: { readonly handle: FileHandle; readonly path: string },
  context: { readonly signal: AbortSignal },
) => Promise<ChunkHashes>

/** Hashes of a file's chunks, remembered by its fingerprint as the hash of the whole is. */
export const createHashChunks =
  (store: Pick<SyncStore, 'hash' | 'saveHash'>): HashChunks =>
  async ({ handle, path }, { signal }) => {
    const stats = await handle.stat({ bigint: true })
    const fingerprint = fingerprintOf(stats)
    const known = store.hash(fingerprint, 'chunks')
    if (known !== undefined) return JSON.parse(known) as ChunkHashes
    const sizeBytes = Number(stats.size)
    const headerBytes = path.endsWith('.safetensors') ? await readHeaderBytes(handle, sizeBytes) : 0
    const hashes: string[] = []
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
    for (let start = 0; start < sizeBytes;) {
      signal.throwIfAborted()
      const end = Math.min(sizeBytes, start === 0 && headerBytes > 0 ? headerBytes : start + CHUNK_BYTES)
      const hash = createHash('sha256')
      for (let at = start; at < end;) {
        const { bytesRead } = await handle.read(buffer, 0, Math.min(end - at, CHUNK_BYTES), at)
        if (bytesRead === 0) break
        hash.update(buffer.subarray(0, bytesRead))
        at += bytesRead
      }
      hashes.push(hash.digest('hex'))
      start = end
    }
    const chunks = { headerBytes, hashes }
    store.saveHash(fingerprint, 'chunks', JSON.stringify(chunks))
    return chunks
  }

const readHeaderBytes = async (handle: FileHandle, sizeBytes: number): Promise<number> => {
  const length = Buffer.alloc(8)
  const { bytesRead } = await handle.read(length, 0, 8, 0)
  const headerBytes = 8 + Number(length.readBigUInt64LE())
  return bytesRead === 8 && headerBytes < sizeBytes ? headerBytes : 0
}
