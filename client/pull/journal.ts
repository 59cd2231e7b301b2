import { closeSync, openSync, writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { Chunk } from '../../shared/contract/chunks.ts'
import type { CheckpointFile } from './checkpoint.ts'
import { createChunkBuffers } from './chunk-buffers.ts'

/**
 * Which chunks have arrived, each with the CRC-32 of its bytes: one JSON line a chunk, appended when the chunk has been
 * written. Nothing is flushed to the disk for it: on resume every chunk is read and summed again, so a line whose
 * bytes did not survive (a power cut, a full disk) costs that chunk and no more. The file's own sha256 is what proves it.
 */
export type Journal = {
  /** Notes that a chunk has been written, with the CRC-32 of its bytes. */
  add(file: CheckpointFile, chunk: Chunk, crc: number): void
  /** Which of the chunks of a file are in `handle` with the bytes that arrived; reads them all. */
  intact(file: CheckpointFile, written: Written): Promise<Set<number>>
  /** Forgets what is known of a file: its bytes as a whole turned out wrong. */
  drop(file: CheckpointFile): void
  close(): void
}

type Written = {
  readonly handle: FileHandle
  readonly chunks: readonly Chunk[]
  readonly onRead: () => void
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
    add: (file, chunk, crc) => {
      const hash = crc.toString(16)
      chunksKnown(file).set(chunk.index, hash)
      write({ file: keyOf(file), chunk: chunk.index, hash })
    },
    intact: async (file, { handle, chunks, onRead }) => {
      const found = new Set<number>()
      const hashes = chunksKnown(file)
      const buffers = createChunkBuffers()
      for (const chunk of chunks) {
        const hash = hashes.get(chunk.index)
        if (hash === undefined) continue
        const buffer = buffers.take(chunk.end - chunk.start + 1)
        const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, chunk.start)
        if (crc32(buffer.subarray(0, bytesRead)).toString(16) === hash) found.add(chunk.index)
        buffers.give(buffer)
        onRead()
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
