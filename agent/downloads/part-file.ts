import { constants } from 'node:fs'
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { errnoOf, fileError, openInside } from '../platform/files.ts'
import type { Clock } from '../platform/clock.ts'
import { type ByteRange, createRangeBook, type RangeBook } from './byte-ranges.ts'

/** Which bytes a partial file may be completed with. Where the hash is known, the source does not matter. */
export type PartIdentity = {
  /** Null when no source says it: such a file is fetched in one go and never resumed. */
  readonly sizeBytes: number | null
  readonly sha256: string | null
  /** Where there is no hash: the source, and what tells its versions apart. */
  readonly version: string | null
}

export type PartFile = {
  readonly path: string
  readonly book: RangeBook
  /** Bytes that an earlier attempt left and that are still good. */
  readonly resumedBytes: number
  /** What an earlier attempt left and could not be used, and why. */
  readonly discarded: { readonly bytes: number; readonly why: string } | null
  /** Writes bytes at their place and notes them. @throws AgentError disk_full, read_only, io_error */
  readonly write: (bytes: Uint8Array, position: number) => Promise<void>
  /** Reads back what was written, for the checks of the first bytes. */
  readonly read: (start: number, length: number) => Promise<Buffer>
  /** Forgets all bytes, for a transfer that starts over. */
  readonly restart: () => Promise<void>
  /** Cuts the file to its final size; only for one whose size was not known. */
  readonly finish: (sizeBytes: number) => Promise<void>
  /** Puts the bytes, then the record of them on disk, and lets go of the file. May be called twice. */
  readonly close: () => Promise<void>
}

export const partPath = (path: string): string => `${path}.part`
const recordPath = (path: string): string => `${path}.part.json`
/** Where the next record is written before it takes the place of the last; one name, so that a kill leaves one file at most. */
const nextRecordPath = (path: string): string => `${recordPath(path)}.new`

/** A file that is longer than its record by less than this is what a crash may cost. */
const RECORD_EVERY_BYTES = 32 * 2 ** 20

const Range = z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()])
const PartRecord = z.object({
  version: z.literal(1),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string().nullable(),
  identity: z.string().nullable(),
  done: z.array(Range),
})
type PartRecord = z.infer<typeof PartRecord>

/**
 * Opens the partial file beside its destination, with what an earlier attempt recorded when that was the same file.
 * The record names only bytes that were forced to disk before it was written, so a crash at any moment costs time and
 * never trust. Not readable, of another file, or longer than the data: it is discarded.
 * @throws AgentError disk_full, read_only, io_error, destination_invalid
 */
export const openPart = async (
  destination: string,
  context: {
    readonly identity: PartIdentity
    readonly clock: Clock
    readonly recordEveryMs: number
    /** The folder that the destination must not leave; null where it was named as a whole. */
    readonly root: string | null
  },
): Promise<PartFile> => {
  const { identity, clock } = context
  const path = partPath(destination)
  const attempt = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw fileError(error, `cannot write ${path}`)
    })

  // Where nobody named a root, the folder itself was named by the manifest.
  const inside = { root: context.root ?? dirname(path), path }
  const flags = constants.O_RDWR | constants.O_CREAT
  const handle = await attempt(openInside(inside, { flags, mode: 0o644 }))
  const existing = await handle.stat()
  const kept = await readRecord(destination, identity, existing.size)
  const size = identity.sizeBytes ?? Number.MAX_SAFE_INTEGER
  const done = kept.state === 'same' ? kept.done : []
  const book = createRangeBook(size, done)
  const resumedBytes = book.doneBytes()

  let unrecorded = 0
  let recordedAt = clock.monotonicMs()
  let recording: Promise<void> | undefined
  let recordError: unknown
  let closed = false

  const record = async (): Promise<void> => {
    const ranges = book.done()
    unrecorded = 0
    await handle.datasync()
    if (identity.sizeBytes !== null) await writeRecord(destination, identity, ranges)
    recordedAt = clock.monotonicMs()
  }

  const recordIfDue = (): void => {
    const due = unrecorded >= RECORD_EVERY_BYTES || clock.monotonicMs() - recordedAt >= context.recordEveryMs
    if (!due || recording) return
    recording = record()
      .catch((error: unknown) => {
        recordError = fileError(error, `cannot write ${recordPath(destination)}`)
      })
      .finally(() => (recording = undefined))
  }

  /** Verified in a moment: a record for that moment costs more than the bytes it could save. */
  const isSmallAndComplete = (): boolean => book.isComplete() && book.doneBytes() <= RECORD_EVERY_BYTES

  const throwRecordError = (): void => {
    const error = recordError
    recordError = undefined
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- it is what the file system threw
    if (error !== undefined) throw error
  }

  if (kept.state !== 'same') {
    await attempt(rm(recordPath(destination), { force: true }))
    await attempt(handle.truncate(0))
  }
  if (identity.sizeBytes !== null) await attempt(handle.truncate(identity.sizeBytes))

  return {
    path,
    book,
    resumedBytes,
    discarded: kept.state === 'other' && existing.size > 0 ? { bytes: kept.bytes, why: kept.why } : null,
    write: async (bytes, position) => {
      throwRecordError()
      await attempt(writeAll(handle, bytes, position))
      book.written({ start: position, end: position + bytes.byteLength })
      unrecorded += bytes.byteLength
      recordIfDue()
    },
    read: async (start, length) => {
      const buffer = Buffer.alloc(length)
      const { bytesRead } = await attempt(handle.read(buffer, 0, length, start))
      return buffer.subarray(0, bytesRead)
    },
    restart: async () => {
      await recording
      book.reset()
      await attempt(rm(recordPath(destination), { force: true }))
    },
    finish: (sizeBytes) => attempt(handle.truncate(sizeBytes)),
    close: async () => {
      if (closed) return
      closed = true
      await recording
      try {
        if (unrecorded > 0) await attempt(isSmallAndComplete() ? handle.datasync() : record())
      } finally {
        await handle.close()
      }
    },
  }
}

/** Removes the partial file and its record. */
export const discardPart = async (destination: string): Promise<void> => {
  await rm(partPath(destination), { force: true })
  await discardRecord(destination)
}

/** Removes the record of a partial file that has become the file, and what a kill left of the next one. */
export const discardRecord = async (destination: string): Promise<void> => {
  await rm(recordPath(destination), { force: true })
  await rm(nextRecordPath(destination), { force: true })
}

const writeAll = async (handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let at = 0; at < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.byteLength - at, position + at)
    at += bytesWritten
  }
}

type Kept =
  | { readonly state: 'same'; readonly done: readonly ByteRange[] }
  | { readonly state: 'other'; readonly bytes: number; readonly why: string }

const readRecord = async (destination: string, identity: PartIdentity, fileSize: number): Promise<Kept> => {
  let found: PartRecord
  try {
    found = PartRecord.parse(JSON.parse(await readFile(recordPath(destination), 'utf8')))
  } catch (error) {
    const why = errnoOf(error) === 'ENOENT' ? 'it has no record' : 'its record cannot be read'
    return { state: 'other', bytes: fileSize, why }
  }
  const done = found.done.map(([start, end]) => ({ start, end }))
  const bytes = done.reduce((sum, range) => sum + Math.max(0, range.end - range.start), 0)
  const last = Math.max(0, ...done.map((range) => range.end))
  const other = (why: string): Kept => ({ state: 'other', bytes, why })
  if (found.sizeBytes !== identity.sizeBytes)
    return other(
      `it is of a file of ${found.sizeBytes} bytes, not ${identity.sizeBytes ?? 'an unknown size'}`,
    )
  if (found.sha256 !== identity.sha256) return other('it is of a file with another sha256')
  if (identity.sha256 === null && found.identity !== identity.version)
    return other('it is of another version of the file')
  if (done.some((range) => range.end <= range.start) || last > found.sizeBytes)
    return other('its record contradicts itself')
  if (last > fileSize) return other('it is shorter than its record says')
  return { state: 'same', done }
}

/** Not the synchronous atomicWrite: an fsync next to gigabytes of fresh data may take seconds. */
const writeRecord = async (
  destination: string,
  identity: PartIdentity,
  ranges: readonly ByteRange[],
): Promise<void> => {
  const record = {
    version: 1,
    sizeBytes: identity.sizeBytes ?? 0,
    sha256: identity.sha256,
    identity: identity.version,
    done: ranges.map(({ start, end }): [number, number] => [start, end]),
  } satisfies PartRecord
  // Whoever writes here holds the claim, so nobody else has this name.
  const temporary = nextRecordPath(destination)
  try {
    const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
    const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o644)
    try {
      await file.writeFile(JSON.stringify(record))
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(temporary, recordPath(destination))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
