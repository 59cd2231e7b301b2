import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { readFile } from 'node:fs/promises'
import type { CheckpointFile } from './checkpoint.ts'

/** 8 MiB: large enough for a fast link, small enough to lose little when it drops. */
export const CHUNK_BYTES = 8 * 2 ** 20

/** A part of a file; `end` is the last byte’s offset. */
export type Chunk = { readonly index: number; readonly start: number; readonly end: number }

export const chunksOf = (sizeBytes: number): Chunk[] =>
  Array.from({ length: Math.ceil(sizeBytes / CHUNK_BYTES) }, (_, index) => ({
    index,
    start: index * CHUNK_BYTES,
    end: Math.min(sizeBytes, (index + 1) * CHUNK_BYTES) - 1,
  }))

/**
 * Which chunks have arrived, each with the hash of its bytes: one JSON line a chunk, appended when the chunk has been
 * written. Nothing is flushed to the disk for it: on resume every chunk is read and hashed again, so a line whose
 * bytes did not survive (a power cut, a full disk) costs that chunk and no more.
 */
export type Journal = {
  /** Notes that a chunk has been written. */
  add(file: CheckpointFile, chunk: Chunk, bytes: Uint8Array): void
  /** The chunks of a file whose bytes in `handle` are still what arrived; reads them all. */
  intact(file: CheckpointFile, handle: FileHandle, onRead: (bytes: number) => void): Promise<Set<number>>
  /** Forgets what is known of a file: its bytes as a whole turned out wrong. */
  drop(file: CheckpointFile): void
  close(): void
}

/** Opens the journal of an unfinished pull, or begins one. A line torn by a crash is passed over. */
export const openJournal = async (path: string): Promise<Journal> => {
  const known = await readLines(path)
  const output = openSync(path, 'a', 0o644)
  const write = (line: JournalLine): void => {
    writeSync(output, `${JSON.stringify(line)}\n`)
  }
  const chunksKnown = (file: CheckpointFile): Map<number, string> => {
    const key = keyOf(file)
    const found = known.get(key) ?? new Map<number, string>()
    known.set(key, found)
    return found
  }
  // A torn last line must not swallow the next one.
  writeSync(output, '\n')
  return {
    add: (file, chunk, bytes) => {
      const hash = sha256Of(bytes)
      chunksKnown(file).set(chunk.index, hash)
      write({ file: keyOf(file), chunk: chunk.index, hash })
    },
    intact: async (file, handle, onRead) => {
      const found = new Set<number>()
      const hashes = chunksKnown(file)
      for (const chunk of chunksOf(file.sizeBytes)) {
        const hash = hashes.get(chunk.index)
        if (hash === undefined) continue
        const bytes = await readChunk(handle, chunk)
        if (sha256Of(bytes) === hash) found.add(chunk.index)
        onRead(bytes.byteLength)
      }
      return found
    },
    drop: (file) => {
      chunksKnown(file).clear()
      write({ file: keyOf(file), chunk: null, hash: null })
    },
    close: () => closeSync(output),
  }
}

type JournalLine =
  | { readonly file: string; readonly chunk: number; readonly hash: string }
  | { readonly file: string; readonly chunk: null; readonly hash: null }

/** A file of the same path with other bytes is another file: its chunks do not count. */
const keyOf = (file: CheckpointFile): string => `${file.sha256} ${file.path}`

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

const readChunk = async (handle: FileHandle, { start, end }: Chunk): Promise<Uint8Array> => {
  const buffer = Buffer.alloc(end - start + 1)
  const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, start)
  return buffer.subarray(0, bytesRead)
}

const readLines = async (path: string): Promise<Map<string, Map<number, string>>> => {
  const known = new Map<string, Map<number, string>>()
  for (const text of (await readFile(path, 'utf8').catch(() => '')).split('\n')) {
    const line = parseLine(text)
    if (line === undefined) continue
    const chunks = known.get(line.file) ?? new Map<number, string>()
    if (line.chunk === null) chunks.clear()
    else chunks.set(line.chunk, line.hash)
    known.set(line.file, chunks)
  }
  return known
}

const parseLine = (text: string): JournalLine | undefined => {
  try {
    const line = JSON.parse(text) as Partial<JournalLine>
    return typeof line.file === 'string' && line.chunk !== undefined ? (line as JournalLine) : undefined
  } catch {
    // The last line before a crash; its chunk is fetched again.
    return undefined
  }
}
