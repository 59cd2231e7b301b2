import { existsSync, readFileSync, watch } from 'node:fs'
import type { Clock } from '../platform/clock.ts'
import { listLogFiles, logEnd, readLog, timesFile } from './shim/log-files.ts'

export type LogChunk = {
  /** Where the bytes lie in the whole output of the process, over all its jobs. */
  readonly offset: number
  readonly bytes: Uint8Array
}

export type LogRange = {
  readonly fromOffset?: number | undefined
  /** The last so many lines. */
  readonly tailLines?: number | undefined
  /** Output from this moment on: milliseconds of the epoch, exact to a second. */
  readonly sinceMs?: number | undefined
}

const CHUNK_BYTES = 64 * 1024
const LONGEST_TAIL_BYTES = 16 * 2 ** 20
const LOOK_EVERY_MS = 1_000

/**
 * The raw output of a process, exactly as it was written, over rotated files and restarts. An offset that was rotated
 * away begins at the oldest byte there is; the chunks say where they lie.
 * @param options.follow asked when everything was read: false ends the reading
 */
export const readOutput = async function* (
  folder: string,
  options: LogRange & {
    readonly follow: () => boolean
    readonly clock: Clock
    readonly signal: AbortSignal
  },
): AsyncGenerator<LogChunk> {
  const { signal } = options
  let offset = findStart(folder, options)
  const changes = watchFolder(folder)
  try {
    for (;;) {
      signal.throwIfAborted()
      // Asked before the last look: what is written until the process ends must not be missed.
      const more = options.follow()
      const chunk = existsSync(folder) ? readLog(folder, { offset, maxBytes: CHUNK_BYTES }) : undefined
      if (chunk !== undefined) {
        offset = chunk.offset + chunk.bytes.length
        yield chunk
      } else if (more) await changes.next(options)
      else return
    }
  } finally {
    changes.close()
  }
}

/** The last lines of the output from the offset `from` on, at most `maxBytes` of it. */
export const readTail = (
  folder: string,
  options: { lines: number; maxBytes: number; from: number },
): Buffer => {
  const end = existsSync(folder) ? logEnd(folder) : 0
  const pieces: Buffer[] = []
  for (let offset = Math.max(options.from, end - options.maxBytes); offset < end;) {
    const chunk = readLog(folder, { offset, maxBytes: CHUNK_BYTES })
    if (chunk === undefined) break
    pieces.push(chunk.bytes)
    offset = chunk.offset + chunk.bytes.length
  }
  const bytes = Buffer.concat(pieces)
  return bytes.subarray(lastLines(bytes, options.lines))
}

const findStart = (folder: string, range: LogRange): number => {
  if (!existsSync(folder)) return 0
  const oldest = listLogFiles(folder)[0]?.start ?? 0
  if (range.fromOffset !== undefined) return Math.max(range.fromOffset, oldest)
  const since = range.sinceMs === undefined ? oldest : offsetAt(folder, range.sinceMs)
  return range.tailLines === undefined ? since : Math.max(since, tailStart(folder, range.tailLines))
}

/** Read in growing pieces from the end until there are enough lines; beyond the longest piece a line is cut. */
const tailStart = (folder: string, lines: number): number => {
  const end = logEnd(folder)
  const oldest = listLogFiles(folder)[0]?.start ?? 0
  for (let maxBytes = CHUNK_BYTES; ; maxBytes *= 4) {
    const tail = readTail(folder, { lines, maxBytes, from: 0 })
    const isWhole = tail.length < Math.min(maxBytes, end - oldest)
    if (isWhole || maxBytes >= Math.min(end - oldest, LONGEST_TAIL_BYTES)) return end - tail.length
  }
}

/** The index at which the last `lines` lines begin; a newline at the very end closes the last line. */
const lastLines = (bytes: Buffer, lines: number): number => {
  if (lines <= 0) return bytes.length
  let at = bytes.length - 1
  for (let found = 0; found < lines && at > 0; found += 1) {
    at = bytes.lastIndexOf(0x0a, at - 1)
    if (at === -1) return 0
  }
  return at <= 0 ? 0 : at + 1
}

const offsetAt = (folder: string, sinceMs: number): number => {
  // One entry speaks for the output of up to a second after it.
  const entry = readTimes(folder).find(({ atMs }) => atMs > sinceMs - 1_000)
  return entry?.offset ?? logEnd(folder)
}

const readTimes = (folder: string): readonly { readonly offset: number; readonly atMs: number }[] => {
  try {
    return readFileSync(timesFile(folder), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ').map(Number))
      .map(([offset = 0, atMs = 0]) => ({ offset, atMs }))
  } catch {
    // Nothing was written yet.
    return []
  }
}

/** Woken by the kernel where it can, and once a second where it cannot (some network and overlay file systems). */
const watchFolder = (folder: string) => {
  let wake = Promise.withResolvers<undefined>()
  const onChange = (): void => {
    wake.resolve(undefined)
    wake = Promise.withResolvers()
  }
  let watcher: ReturnType<typeof watch> | undefined
  try {
    watcher = watch(folder, { persistent: false }, onChange)
    watcher.on('error', () => watcher?.close())
  } catch {
    // The folder does not exist yet, or the kernel's watches are used up: the looks once a second remain.
  }
  return {
    next: async ({
      clock,
      signal,
    }: {
      readonly clock: Clock
      readonly signal: AbortSignal
    }): Promise<void> => {
      const done = new AbortController()
      const pause = clock.sleep(LOOK_EVERY_MS, AbortSignal.any([signal, done.signal])).catch(() => undefined)
      await Promise.race([wake.promise, pause])
      done.abort()
      await pause
    },
    close: (): void => watcher?.close(),
  }
}
