import { createReadStream, createWriteStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createInflateRaw, inflateRawSync } from 'node:zlib'
import { AgentError } from '../../shared/contract/errors.ts'

/** One file in a zip. */
export type ZipEntry = {
  readonly name: string
  readonly sizeBytes: number
  readonly packedBytes: number
  readonly isStored: boolean
  /** Where its own header begins. */
  readonly offset: number
}

/** A zip that is open for reading. */
export type ZipArchive = {
  readonly entries: readonly ZipEntry[]
  /** The whole of a small file. */
  read(entry: ZipEntry): Promise<Buffer>
  /** Writes a file of any size; it never holds more than its entry says. */
  extract(entry: ZipEntry, to: string): Promise<void>
}

/** The end record of a zip and the longest comment after it. */
const TAIL_BYTES = 22 + 0xffff
const ZIP64 = 1
const IN_ZIP64 = 0xffff_ffff
/** A text of a wheel; larger ones are not read whole. */
const MAX_READ_BYTES = 256 * 2 ** 20

/**
 * Opens a zip for `use` and closes it after.
 * @throws AgentError install_failed when it is damaged
 */
export const withZip = async <T>(path: string, use: (zip: ZipArchive) => Promise<T>): Promise<T> => {
  const file = await open(path)
  try {
    const read = readerOf(file)
    const entries = await readEntries(read, (await file.stat()).size)
    const startOf = async (entry: ZipEntry): Promise<number> => {
      const header = await read(entry.offset, 30)
      return entry.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
    }
    return await use({
      entries,
      read: async (entry) => {
        if (entry.packedBytes > MAX_READ_BYTES) throw new RangeError('too large')
        const packed = await read(await startOf(entry), entry.packedBytes)
        return entry.isStored ? packed : inflateRawSync(packed, { maxOutputLength: MAX_READ_BYTES })
      },
      extract: async (entry, to) => {
        await mkdir(dirname(to), { recursive: true })
        const start = await startOf(entry)
        const packed =
          entry.packedBytes === 0
            ? Readable.from([])
            : createReadStream(path, { start, end: start + entry.packedBytes - 1 })
        let left = entry.sizeBytes
        const bounded = async function* (chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
          for await (const chunk of chunks) {
            left -= chunk.length
            if (left < 0) throw new RangeError('it is larger than it says')
            yield chunk
          }
        }
        if (entry.isStored || entry.packedBytes === 0) await pipeline(packed, bounded, createWriteStream(to))
        else await pipeline(packed, createInflateRaw(), bounded, createWriteStream(to))
      },
    })
  } catch (error) {
    const isDamage =
      error instanceof RangeError ||
      (error instanceof Error && 'code' in error && /^Z_|BUFFER/.test(String(error.code)))
    if (isDamage)
      throw new AgentError('install_failed', `${path} is not a wheel: it cannot be unpacked`, {
        cause: error,
      })
    throw error
  } finally {
    await file.close()
  }
}

type Read = (position: number, length: number) => Promise<Buffer>

const readerOf =
  (file: FileHandle): Read =>
  async (position, length) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
    if (bytesRead !== length) throw new RangeError('it ends too early')
    return buffer
  }

const readEntries = async (read: Read, size: number): Promise<ZipEntry[]> => {
  const tailBytes = Math.min(size, TAIL_BYTES)
  const tail = await read(size - tailBytes, tailBytes)
  const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  if (end < 0) throw new RangeError('it has no end record')
  const length = tail.readUInt32LE(end + 12)
  const start = tail.readUInt32LE(end + 16)
  if (start + length > size) throw new RangeError('it has no directory')
  const directory = await read(start, length)
  const entries: ZipEntry[] = []
  for (let at = 0; at + 46 <= directory.length;) {
    if (directory.readUInt32LE(at) !== 0x0201_4b50) throw new RangeError('its directory cannot be read')
    const nameLength = directory.readUInt16LE(at + 28)
    const extraLength = directory.readUInt16LE(at + 30)
    const extra = directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength)
    const [sizeBytes = 0, packedBytes = 0, offset = 0] = largeNumbers(
      [directory.readUInt32LE(at + 24), directory.readUInt32LE(at + 20), directory.readUInt32LE(at + 42)],
      extra,
    )
    entries.push({
      name: directory.toString('utf8', at + 46, at + 46 + nameLength),
      sizeBytes,
      packedBytes,
      isStored: directory.readUInt16LE(at + 10) === 0,
      offset,
    })
    at += 46 + nameLength + extraLength + directory.readUInt16LE(at + 32)
  }
  return entries
}

/** Numbers that do not fit 32 bits stand in an extra field, in this order, and only those. */
const largeNumbers = (numbers: readonly number[], extra: Buffer): number[] => {
  let place = -1
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2))
    if (extra.readUInt16LE(at) === ZIP64) place = at + 4
  return numbers.map((number) => {
    if (number !== IN_ZIP64 || place < 0) return number
    const large = Number(extra.readBigUInt64LE(place))
    place += 8
    return large
  })
}
