import { constants, copyFile, open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import pLimit from 'p-limit'
import type { Chunk } from '../../shared/contract/chunks.ts'
import { chunksOf } from '../../shared/contract/chunks.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { makeFolders } from '../../shared/make-folders.ts'
import type { Api } from '../api.ts'
import type { Checkpoint, CheckpointFile } from './checkpoint.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'
import { createChunkBuffers } from './chunk-buffers.ts'
import type { Fallback } from './fallback.ts'
import { fetchChunk } from './fetch-chunk.ts'
import { createFileWriter } from './file-writer.ts'
import { isThatFile } from './hash-file.ts'
import type { Journal } from './journal.ts'
import { reuseChunks } from './reuse-chunks.ts'
import { createRunningHash } from './running-hash.ts'
import { joinInside } from './safe-path.ts'
import type { Meter } from './speed.ts'

export type PullFilesDeps = {
  readonly api: Api
  readonly signal: AbortSignal
  readonly journal: Journal
  readonly meter: Meter
  readonly onWaiting: (error: AgentError) => void
  readonly fallback: Fallback
  /** Where the files are put together. */
  readonly staging: string
  /** A folder that may hold files of the same path and bytes from an earlier pull. */
  readonly earlier: string
}

/** Four connections fill the usual line; more only take it from each other. */
const CONNECTIONS = 4
/** Small files wait for answers, so several are under way at once. */
const FILES_AT_ONCE = 4

/**
 * Puts every file of a checkpoint into the staging folder, each proven by its sha256 and on the disk. The first
 * failure stops the others; what has arrived stays for the next attempt.
 * @throws AgentError checkpoint_changed, hash_mismatch, disk_full, and those of the API
 */
export const pullFiles = async (checkpoint: Checkpoint, deps: PullFilesDeps): Promise<void> => {
  const failed = new AbortController()
  const signal = AbortSignal.any([deps.signal, failed.signal])
  const connections = pLimit(CONNECTIONS)
  const files = pLimit(FILES_AT_ONCE)
  const buffers = createChunkBuffers()
  const results = await Promise.allSettled(
    checkpoint.files.map((file) =>
      files(async () => {
        signal.throwIfAborted()
        try {
          await pullFile({ checkpoint, file }, { ...deps, signal, connections, buffers })
        } catch (error) {
          failed.abort(error)
          throw error
        }
      }),
    ),
  )
  deps.signal.throwIfAborted()
  if (results.some(({ status }) => status === 'rejected')) throw failed.signal.reason
}

type PullFileDeps = PullFilesDeps & {
  readonly connections: <T>(work: () => Promise<T>) => Promise<T>
  readonly buffers: ChunkBuffers
}
type OneFile = { readonly checkpoint: Checkpoint; readonly file: CheckpointFile }

const pullFile = async (one: OneFile, deps: PullFileDeps): Promise<void> => {
  const { file } = one
  const path = joinInside(deps.staging, file.path)
  await makeFolders(dirname(path))
  if (await takeEarlier(file, path, deps)) return
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o644)
  try {
    await handle.truncate(file.sizeBytes)
    const earlier = joinInside(deps.earlier, file.path)
    const chunks = (await reuseChunks(one, handle, { ...deps, earlier })) ?? chunksOf(file.sizeBytes)
    if ((await fetchMissing(one, handle, { ...deps, chunks })) !== file.sha256) {
      // A byte was flipped on the way, in a chunk that cannot be told: the file comes once more.
      deps.journal.drop(file)
      deps.meter.reused(-file.sizeBytes, file.path)
      if ((await fetchMissing(one, handle, { ...deps, chunks })) !== file.sha256)
        throw mismatch(file, deps.journal)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** A file that lies under the final name already is copied, not fetched. */
const takeEarlier = async (file: CheckpointFile, path: string, deps: PullFileDeps): Promise<boolean> => {
  const earlier = joinInside(deps.earlier, file.path)
  if (!(await isThatFile(earlier, file, deps.signal))) return false
  await copyFile(earlier, path, constants.COPYFILE_FICLONE)
  if (!(await isThatFile(path, file, deps.signal))) return false
  const copy = await open(path, 'r')
  try {
    await copy.sync()
  } finally {
    await copy.close()
  }
  deps.meter.reused(file.sizeBytes, file.path)
  return true
}

/** Brings the chunks that are not here. @returns the sha256 of the whole file */
const fetchMissing = async (
  { checkpoint, file }: OneFile,
  handle: FileHandle,
  deps: PullFileDeps & { readonly chunks: readonly Chunk[] },
): Promise<string> => {
  const { api, signal, journal, meter, onWaiting, fallback, chunks, buffers } = deps
  const running = createRunningHash(buffers)
  const here = await journal.intact(file, { handle, chunks, onRead: () => signal.throwIfAborted() })
  const bytesHere = chunks
    .filter(({ index }) => here.has(index))
    .reduce((sum, chunk) => sum + lengthOf(chunk), 0)
  meter.reused(bytesHere, file.path)
  const onBytes = (bytes: number): void => meter.received(bytes, file.path)
  const writer = createFileWriter(handle)
  // Settled, not all: no write may be under way when the handle is closed.
  const results = await Promise.allSettled(
    chunks
      .filter(({ index }) => !here.has(index))
      .map((chunk) =>
        deps.connections(async () => {
          const one = { checkpoint, file, chunk }
          const { bytes, crc } = await fetchChunk(one, {
            api,
            signal,
            take: buffers.take,
            onPart: writer.write,
            onBytes,
            onWaiting,
            fallback,
          })
          await writer.written()
          journal.add(file, chunk, crc)
          running.add(chunk, bytes)
        }),
      ),
  )
  await writer.end()
  for (const result of results) if (result.status === 'rejected') throw result.reason
  return running.finish(handle, { sizeBytes: file.sizeBytes, signal })
}

const lengthOf = ({ start, end }: Chunk): number => end - start + 1

const mismatch = (file: CheckpointFile, journal: Journal): AgentError => {
  journal.drop(file)
  return new AgentError(
    'hash_mismatch',
    `${file.path}: the bytes that came twice do not have sha256 ${file.sha256}`,
    {
      hint: 'Something on the way changes bytes, or the file on the box is damaged; pull again.',
    },
  )
}
