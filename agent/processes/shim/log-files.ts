import { closeSync, openSync, readSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** One file of a process's output; its name says at which byte of the whole output it begins. */
export type LogFile = { readonly path: string; readonly start: number; readonly end: number }

/** The log files of a folder, oldest first. */
export const listLogFiles = (folder: string): readonly LogFile[] =>
  readdirSync(folder)
    .flatMap((name) => {
      const start = /^out\.(\d+)\.log$/.exec(name)?.[1]
      return start === undefined ? [] : sized(join(folder, name), Number(start))
    })
    .sort((a, b) => a.start - b.start)

export const logFilePath = (folder: string, start: number): string => join(folder, `out.${start}.log`)

/** Times of offsets, one line `<offset> <epoch ms>` at most each second: how `--since` finds its place. */
export const timesFile = (folder: string): string => join(folder, 'out.times')

/** Bytes at `offset`, from one file; where the log begins later by now, from its beginning. Undefined at the end. */
export const readLog = (
  folder: string,
  range: { readonly offset: number; readonly maxBytes: number },
): { readonly offset: number; readonly bytes: Buffer } | undefined => {
  const file = listLogFiles(folder).find(({ end }) => end > range.offset)
  if (file === undefined) return undefined
  const offset = Math.max(range.offset, file.start)
  const buffer = Buffer.allocUnsafe(Math.min(range.maxBytes, file.end - offset))
  const handle = openForReading(file.path)
  if (handle === undefined) return undefined
  try {
    const length = readSync(handle, buffer, 0, buffer.length, offset - file.start)
    return length === 0 ? undefined : { offset, bytes: buffer.subarray(0, length) }
  } finally {
    closeSync(handle)
  }
}

/** The offset after the last byte. */
export const logEnd = (folder: string): number => listLogFiles(folder).at(-1)?.end ?? 0

const sized = (path: string, start: number): LogFile[] => {
  try {
    return [{ path, start, end: start + statSync(path).size }]
  } catch {
    // Rotated away between the listing and the look.
    return []
  }
}

const openForReading = (path: string): number | undefined => {
  try {
    return openSync(path, 'r')
  } catch {
    // Rotated away between the listing and the look; the next look begins at the next file.
    return undefined
  }
}
