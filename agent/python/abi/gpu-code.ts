import type { FilePart } from './read-elf.ts'
import { textAt, withFile } from './read-elf.ts'

/*
 * Which GPUs an object has code for. CUDA objects carry “fatbins” in a section: a header (magic, version, header size,
 * size), then entries (kind 1 PTX, 2 machine code; sizes; the architecture at byte 28).
 */

/** Architectures as numbers: 90 is compute capability 9.0. */
export type GpuCode = { readonly machine: readonly number[]; readonly ptx: readonly number[] }

const MAGIC = 0xba55_ed50
const PTX = 1
const MACHINE = 2
const ENTRY_BYTES = 64
/** Padding between fatbins is short; a section without any is not searched to its end. */
const MAX_GAP_BYTES = 1 << 16

/** The architectures that every fatbin of an object has; null when it has none, or its sections were stripped. */
export const readGpuCode = (path: string): GpuCode | null =>
  withFile(path, (file) => {
    const counts = new Map<string, number>()
    let fatbins = 0
    for (const section of fatbinSections(file))
      for (const kinds of readFatbins(file, section)) {
        fatbins += 1
        for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1)
      }
    if (fatbins === 0) return null
    const inAll = (kind: number): number[] =>
      [...counts]
        .filter(([key, count]) => count === fatbins && key.startsWith(`${kind} `))
        .map(([key]) => Number(key.split(' ')[1]))
        .sort((a, b) => a - b)
    return { machine: inAll(MACHINE), ptx: inAll(PTX) }
  })

/** True when a GPU of this compute capability (`9.0`) can run the object: the same generation, or PTX to compile. */
export const runsOn = (code: GpuCode, capability: string): boolean => {
  const [major = 0, minor = 0] = capability.split('.').map(Number)
  const here = major * 10 + minor
  return (
    code.machine.some((one) => Math.floor(one / 10) === major && one <= here) ||
    code.ptx.some((one) => one <= here)
  )
}

type Section = { readonly name: string; readonly offset: number; readonly bytes: number }

const fatbinSections = (file: FilePart): Section[] => {
  if (file.size < 64) return []
  const head = file.read(0, 64)
  if (head.readUInt32BE(0) !== 0x7f45_4c46) return []
  const size = head.readUInt16LE(58)
  const count = head.readUInt16LE(60)
  const table = Number(head.readBigUInt64LE(40))
  if (size < 64 || table === 0 || table + size * count > file.size) return []
  const headers = file.read(table, size * count)
  const sectionAt = (index: number) => ({
    nameAt: headers.readUInt32LE(index * size),
    offset: Number(headers.readBigUInt64LE(index * size + 24)),
    bytes: Number(headers.readBigUInt64LE(index * size + 32)),
  })
  const namesIndex = head.readUInt16LE(62)
  if (namesIndex >= count) return []
  const namesAt = sectionAt(namesIndex)
  if (namesAt.offset + namesAt.bytes > file.size) return []
  const names = file.read(namesAt.offset, namesAt.bytes)
  return Array.from({ length: count }, (_, index) => {
    const { nameAt, offset, bytes } = sectionAt(index)
    return { name: textAt(names, nameAt), offset, bytes }
  }).filter(
    ({ name, offset, bytes }) =>
      (name === '.nv_fatbin' || name === '__nv_relfatbin') && offset + bytes <= file.size,
  )
}

/** For each fatbin the kinds and architectures of its entries, as `kind architecture`. */
function* readFatbins(file: FilePart, section: Section): Iterable<ReadonlySet<string>> {
  const end = section.offset + section.bytes
  let gap = 0
  for (let at = section.offset; at + 16 <= end && gap < MAX_GAP_BYTES;) {
    const head = file.read(at, 16)
    if (head.readUInt32LE(0) !== MAGIC) {
      at += 8
      gap += 8
      continue
    }
    gap = 0
    const begin = at + Math.max(16, head.readUInt16LE(6))
    const fatbinEnd = Math.min(end, begin + Number(head.readBigUInt64LE(8)))
    yield readEntries(file, { at: begin, end: fatbinEnd })
    at = Math.ceil(Math.max(fatbinEnd, begin) / 8) * 8
  }
}

const readEntries = (file: FilePart, range: { at: number; end: number }): Set<string> => {
  const kinds = new Set<string>()
  for (let at = range.at; at + ENTRY_BYTES <= range.end;) {
    const entry = file.read(at, ENTRY_BYTES)
    const headBytes = entry.readUInt32LE(4)
    if (headBytes < 32) break
    kinds.add(`${entry.readUInt16LE(0)} ${entry.readUInt32LE(28)}`)
    at += headBytes + Number(entry.readBigUInt64LE(8))
  }
  return kinds
}
