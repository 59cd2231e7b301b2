import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { dirname } from 'node:path'

/*
 * The head of a shared object: which libraries it needs and where its tables lie. Only program headers are used, so
 * stripped files read as well. Files are hostile: every offset is checked against the file before it is read.
 * Formats: System V gABI, chapters 4 and 5.
 */

/** A 64-bit little-endian shared object or program with a dynamic section. */
export type ElfObject = {
  readonly path: string
  /** `e_machine`: 62 is x86-64, 183 is aarch64. */
  readonly machine: number
  readonly needed: readonly string[]
  readonly soname: string | null
  /** Folders, with $ORIGIN replaced. */
  readonly rpath: readonly string[]
  readonly runpath: readonly string[]
  readonly segments: readonly Segment[]
  /** Values of the dynamic section by tag. */
  readonly tags: ReadonlyMap<number, number>
}

type Segment = { readonly offset: number; readonly address: number; readonly bytes: number }

/** Reads parts of one file. */
export type FilePart = { readonly size: number; read(offset: number, length: number): Buffer }

/** Tags of the dynamic section. */
export const TAG = {
  needed: 1,
  hash: 4,
  strings: 5,
  symbols: 6,
  stringBytes: 10,
  soname: 14,
  rpath: 15,
  runpath: 29,
  gnuHash: 0x6fff_fef5,
  versions: 0x6fff_fff0,
  definedVersions: 0x6fff_fffc,
  definedVersionCount: 0x6fff_fffd,
  neededVersions: 0x6fff_fffe,
  neededVersionCount: 0x6fff_ffff,
} as const

const LOAD = 1
const DYNAMIC = 2
/** The longest name of a library or a list of folders that is believed. */
const TEXT_BYTES = 64 * 1024
const ENTRY_BYTES = 16

/** What a file is: an object, something else (a linker script, 32 bits), or an object that cannot be loaded. */
export type ElfReading =
  | { readonly state: 'object'; readonly object: ElfObject }
  | { readonly state: 'other' }
  | { readonly state: 'damaged'; readonly reason: string }

/** Reads the head of a file. */
export const readElf = (path: string): ElfReading => {
  try {
    return withFile(path, (file) => readHead(path, file))
  } catch (error) {
    return { state: 'damaged', reason: error instanceof Error ? error.message : String(error) }
  }
}

/** Opens a file for `use` and closes it after; a read beyond its end throws. */
export const withFile = <T>(path: string, use: (file: FilePart) => T): T => {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const read = (offset: number, length: number): Buffer => {
      if (!(offset >= 0 && length >= 0 && offset + length <= size)) throw new Error('it ends too early')
      const buffer = Buffer.allocUnsafe(length)
      let done = 0
      while (done < length) {
        const count = readSync(file, buffer, done, length - done, offset + done)
        if (count === 0) throw new Error('it ends too early')
        done += count
      }
      return buffer
    }
    return use({ size, read })
  } finally {
    closeSync(file)
  }
}

/** Where an address of the loaded object lies in its file. @throws Error when no segment holds it */
export const offsetOf = (object: Pick<ElfObject, 'segments'>, address: number): number => {
  const segment = object.segments.find((one) => address >= one.address && address < one.address + one.bytes)
  if (segment === undefined) throw new Error('a table lies outside of its segments')
  return address - segment.address + segment.offset
}

/** The text that begins at `offset` and ends with a zero. */
export const textAt = (buffer: Buffer, offset: number): string => {
  const end = buffer.indexOf(0, offset)
  return buffer.toString('latin1', offset, end < 0 ? buffer.length : end)
}

const readHead = (path: string, file: FilePart): ElfReading => {
  if (file.size < 64) return { state: 'other' }
  const head = file.read(0, 64)
  const isElf = head.readUInt32BE(0) === 0x7f45_4c46
  // Class 2 has 64 bits, data 1 is little-endian.
  if (!isElf || head[4] !== 2 || head[5] !== 1) return { state: 'other' }
  const size = head.readUInt16LE(54)
  const count = head.readUInt16LE(56)
  if (count > 0 && size < 56) throw new Error('its program headers cannot be read')
  const headers = file.read(number64(head, 32), size * count)
  const segments: Segment[] = []
  let dynamic: Segment | undefined
  for (let at = 0; at < headers.length; at += size) {
    const segment = {
      offset: number64(headers, at + 8),
      address: number64(headers, at + 16),
      bytes: number64(headers, at + 32),
    }
    const type = headers.readUInt32LE(at)
    if (type === LOAD) segments.push(segment)
    else if (type === DYNAMIC) dynamic = segment
  }
  // Loaded all the same, such a file kills its process with SIGBUS.
  if (segments.some((one) => one.offset + one.bytes > file.size)) throw new Error('it is cut off')
  if (dynamic === undefined) return { state: 'other' }
  return { state: 'object', object: readDynamic(path, { file, segments, dynamic, head }) }
}

const readDynamic = (
  path: string,
  from: { file: FilePart; segments: readonly Segment[]; dynamic: Segment; head: Buffer },
): ElfObject => {
  const { file, segments } = from
  const entries = file.read(from.dynamic.offset, from.dynamic.bytes)
  const tags = new Map<number, number>()
  const needed: number[] = []
  for (let at = 0; at + ENTRY_BYTES <= entries.length; at += ENTRY_BYTES) {
    const tag = number64(entries, at)
    if (tag === 0) break
    if (tag === TAG.needed) needed.push(number64(entries, at + 8))
    else tags.set(tag, number64(entries, at + 8))
  }
  const strings = tags.get(TAG.strings)
  const bytes = tags.get(TAG.stringBytes) ?? 0
  const start = strings === undefined ? 0 : offsetOf({ segments }, strings)
  const text = (offset: number): string =>
    textAt(file.read(start + offset, Math.max(0, Math.min(bytes - offset, TEXT_BYTES))), 0)
  const folders = (tag: number): string[] => {
    const at = tags.get(tag)
    return at === undefined
      ? []
      : text(at)
          .split(':')
          .filter(Boolean)
          .map((folder) => folder.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, dirname(path)))
  }
  const soname = tags.get(TAG.soname)
  return {
    path,
    machine: from.head.readUInt16LE(18),
    needed: needed.map(text),
    soname: soname === undefined ? null : text(soname),
    rpath: folders(TAG.rpath),
    runpath: folders(TAG.runpath),
    segments,
    tags,
  }
}

/** An offset, address or size; what does not fit a file is far outside of every check. */
const number64 = (buffer: Buffer, at: number): number =>
  buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * 2 ** 32
