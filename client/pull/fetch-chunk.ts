import { crc32 } from 'node:zlib'
import type { Chunk } from '../../shared/contract/chunks.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Api } from '../api.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import type { Reply } from '../transport.ts'
import { backoffMs, sleep } from '../wait.ts'
import type { Checkpoint, CheckpointFile } from './checkpoint.ts'
import type { Fallback } from './fallback.ts'
import type { RemoteCopy } from './remote-copy.ts'

export type FetchDeps = {
  readonly api: Api
  readonly signal: AbortSignal
  /** Memory for the chunk. */
  readonly take: (bytes: number) => Buffer
  /** Gets each part as soon as it is there, while the processor still holds it, and where in the file it belongs. */
  readonly onPart: (bytes: Uint8Array, at: number) => void
  /** Bytes as they arrive; negative when what arrived of a chunk is thrown away. */
  readonly onBytes: (bytes: number) => void
  /** Told when the box is away and the transfer waits for it. */
  readonly onWaiting: (error: AgentError) => void
  /** What is read instead when the box stays away. */
  readonly fallback: Fallback
}

/** `crc`: the CRC-32 of the bytes. */
export type FetchedChunk = { readonly bytes: Uint8Array; readonly crc: number }

/** Parts are a little longer; of 256 KB and more the kernel takes memory that costs more (write-all.ts). */
const PART_BYTES = 2 ** 17
/** A connection that carries nothing for this long is dead, whatever the kernel says. */
const STALL_MS = 30_000
/** The box may restart, the laptop may sleep: a chunk is tried again for this long after its last byte, and this often. */
const GIVE_UP_MS = 5 * 60_000
const GIVE_UP_ATTEMPTS = 10
/** Answers that are wrong rather than missing are not worth more attempts. */
const WRONG_ANSWERS = 5

/**
 * The bytes of one chunk. The strong ETag in If-Range makes sure that they are of the file that was resolved.
 * Broken connections and an agent that restarts are waited for; of a box that stays away the copy on its remote is read.
 * @throws AgentError checkpoint_changed when the file is another one now, source_refused when something on the way
 * does not honour ranges, unreachable when the box stays away
 */
export const fetchChunk = async (
  { checkpoint, file, chunk }: { checkpoint: Checkpoint; file: CheckpointFile; chunk: Chunk },
  deps: FetchDeps,
): Promise<FetchedChunk> => {
  const bytes = deps.take(chunk.end - chunk.start + 1)
  let heardMs = performance.now()
  let wrong = 0
  for (let attempt = 1; ; attempt += 1) {
    let arrived = 0
    const copy = await deps.fallback.instead(performance.now() - heardMs)
    try {
      const crc = await fetchOnce({ checkpoint, file, chunk, into: bytes }, { ...deps, copy }, (count) => {
        arrived += count
        heardMs = performance.now()
        attempt = 1
        deps.onBytes(count)
      })
      return { bytes, crc }
    } catch (error) {
      deps.onBytes(-arrived)
      const known = connectionError(error, deps.signal, deps.api.label)
      if (deps.signal.aborted) throw known
      if (copy) deps.fallback.failed(known)
      if (known.code === 'source_refused') wrong += 1
      else if (!isPassing(known)) throw known
      const isHopeless = attempt >= GIVE_UP_ATTEMPTS && performance.now() - heardMs > GIVE_UP_MS
      if (wrong >= WRONG_ANSWERS || isHopeless) throw known
      deps.onWaiting(known)
    }
    await sleep(backoffMs(attempt), deps.signal)
  }
}

const fetchOnce = async (
  {
    checkpoint,
    file,
    chunk,
    into,
  }: { checkpoint: Checkpoint; file: CheckpointFile; chunk: Chunk; into: Buffer },
  { api, signal, onPart, copy }: FetchDeps & { readonly copy: RemoteCopy | undefined },
  onBytes: (bytes: number) => void,
): Promise<number> => {
  const stall = new AbortController()
  const timer = setTimeout(() => {
    stall.abort(new AgentError('unreachable', `no bytes of ${file.path} came for ${STALL_MS / 1000} s`))
  }, STALL_MS)
  const ended = AbortSignal.any([signal, stall.signal])
  try {
    const body = copy
      ? copy.read(file, chunk, ended)
      : await askBox({ checkpoint, file, chunk }, { api, signal: ended })
    let offset = 0
    let crc = 0
    let told = 0
    const tell = (end: number): void => {
      onPart(into.subarray(told, end), chunk.start + told)
      told = end
    }
    for await (const part of body) {
      if (offset + part.byteLength > into.byteLength) throw refused(file, 'more bytes than were asked for')
      // Here, while the processor still holds the bytes: of a chunk that has gone to memory it takes twice as long.
      crc = crc32(part, crc)
      const length = part.copy(into, offset)
      offset += length
      if (offset - told >= PART_BYTES) tell(offset)
      giveBack(part)
      onBytes(length)
      timer.refresh()
    }
    if (offset !== into.byteLength)
      throw new AgentError('unreachable', `${file.path}: ${offset} of ${into.byteLength} bytes came`)
    if (told < offset) tell(offset)
    return crc
  } catch (error) {
    throw connectionError(error, ended, api.label)
  } finally {
    clearTimeout(timer)
  }
}

const askBox = async (
  { checkpoint, file, chunk }: { checkpoint: Checkpoint; file: CheckpointFile; chunk: Chunk },
  { api, signal }: Pick<FetchDeps, 'api' | 'signal'>,
): Promise<AsyncIterable<Buffer>> => {
  const etag = `"sha256-${file.sha256}"`
  const { name, sync, digest } = checkpoint
  const ask = { name, sync, digest, path: file.path, etag, start: chunk.start, end: chunk.end }
  const reply = await api.openCheckpointFile(ask, signal)
  checkHead(reply, { etag, file, chunk })
  return reply.body as AsyncIterable<Buffer>
}

/** Frees memory that nobody else has at once; the collector would come for it each time that 64 MB are there. */
const giveBack = ({ buffer, byteLength }: Buffer): void => {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}

/** Takes the answer only when it is exactly the range of exactly this file; its body is thrown away otherwise. */
const checkHead = (
  reply: Reply,
  { etag, file, chunk }: { etag: string; file: CheckpointFile; chunk: Chunk },
): void => {
  const { status, headers, body } = reply
  const encoding = headers['content-encoding'] ?? 'identity'
  const range = `bytes ${chunk.start}-${chunk.end}/${file.sizeBytes}`
  const isWhole = status === 200 && chunk.start === 0 && chunk.end === file.sizeBytes - 1
  const isRange = status === 206 && headers['content-range'] === range
  const isThisFile = headers.etag === etag
  if (isThisFile && encoding === 'identity' && (isRange || isWhole)) return
  body.destroy()
  if (!isThisFile && headers.etag !== undefined)
    throw new AgentError('checkpoint_changed', `${file.path} is another file on the box now`)
  throw refused(
    file,
    encoding === 'identity'
      ? `HTTP ${status} and ${headers['content-range'] ?? 'no content-range'}`
      : `${encoding} bytes`,
  )
}

const refused = (file: CheckpointFile, what: string): AgentError =>
  new AgentError('source_refused', `${file.path}: asked for a range, the answer was ${what}`, {
    hint: 'Something between this machine and the box changes its answers; reach the box another way.',
  })
