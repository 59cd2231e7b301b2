import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { constants, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { Chunk } from '../../shared/contract/chunks.ts'
import { CHUNK_BYTES, chunksOf } from '../../shared/contract/chunks.ts'
import type { Api } from '../api.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import type { Checkpoint, CheckpointFile } from './checkpoint.ts'
import { createChunkBuffers } from './chunk-buffers.ts'
import type { Journal } from './journal.ts'
import { writeAll } from './write-all.ts'

export type ReuseDeps = {
  readonly api: Api
  readonly journal: Journal
  readonly signal: AbortSignal
  /** Where an earlier version of the file may lie. */
  readonly earlier: string
}

/**
 * Takes from an earlier version of a file what is still equal, so that only the rest is fetched: frozen layers, a
 * header that grew, what was appended. Weights that were all trained on have nothing in common; then it costs reading
 * both files once.
 * @returns the chunks that the file is to be fetched in; undefined when there is nothing to take from
 */
export const reuseChunks = async (
  { checkpoint, file }: { checkpoint: Checkpoint; file: CheckpointFile },
  handle: FileHandle,
  deps: ReuseDeps,
): Promise<readonly Chunk[] | undefined> => {
  const { api, journal, signal } = deps
  if (file.sizeBytes <= CHUNK_BYTES) return undefined
  const earlier = await open(deps.earlier, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined)
  if (!earlier) return undefined
  try {
    const stats = await earlier.stat()
    if (!stats.isFile() || stats.size === 0) return undefined
    const { name, sync, digest } = checkpoint
    const wanted = await unlessAway(api.checkpointChunks({ name, sync, digest, path: file.path }), deps)
    if (wanted === undefined) return undefined
    if (wanted.headerBytes >= file.sizeBytes) return undefined
    const chunks = chunksOf(file.sizeBytes, wanted.headerBytes)
    const here = await journal.intact(file, { handle, chunks, onRead: () => signal.throwIfAborted() })
    const missing = new Map<string, Chunk[]>()
    for (const chunk of chunks) {
      const hash = wanted.hashes[chunk.index]
      if (hash !== undefined && !here.has(chunk.index))
        missing.set(hash, [...(missing.get(hash) ?? []), chunk])
    }
    const headerBytes = file.path.endsWith('.safetensors') ? await readHeaderBytes(earlier, stats.size) : 0
    const buffers = createChunkBuffers()
    for (const old of chunksOf(stats.size, headerBytes)) {
      signal.throwIfAborted()
      const buffer = buffers.take(old.end - old.start + 1)
      const { bytesRead } = await earlier.read(buffer, 0, buffer.byteLength, old.start)
      const bytes = buffer.subarray(0, bytesRead)
      for (const chunk of missing.get(createHash('sha256').update(bytes).digest('hex')) ?? []) {
        await writeAll(handle, bytes, chunk.start)
        journal.add(file, chunk, crc32(bytes))
      }
      buffers.give(buffer)
    }
    return chunks
  } finally {
    await earlier.close()
  }
}

/** Without the box's word what could be taken is fetched: that costs bytes, and a pull that ends costs more. */
const unlessAway = async <T>(
  asked: Promise<T>,
  { api, signal }: Pick<ReuseDeps, 'api' | 'signal'>,
): Promise<T | undefined> => {
  try {
    return await asked
  } catch (error) {
    const known = connectionError(error, signal, api.label)
    if (signal.aborted || !isPassing(known)) throw known
    return undefined
  }
}

const readHeaderBytes = async (handle: FileHandle, sizeBytes: number): Promise<number> => {
  const length = Buffer.alloc(8)
  await handle.read(length, 0, 8, 0)
  const headerBytes = 8 + Number(length.readBigUInt64LE())
  return headerBytes < Math.min(sizeBytes, 2 ** 27) ? headerBytes : 0
}
