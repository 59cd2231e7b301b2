import type { FilePart } from './read-elf.ts'
import { textAt } from './read-elf.ts'

/** A version that an object was linked with: `GLIBC_2.34` of `libc.so.6`. */
export type NeededVersion = { readonly file: string; readonly name: string; readonly weak: boolean }

type Table = { readonly at: number | undefined; readonly count: number; readonly strings: Buffer }

/** More entries than any object has: a damaged file must not keep the reader busy. */
const MAX_ENTRIES = 10_000
const WEAK = 2

/** The versions that an object needs, by the index its symbols use. */
export const readNeededVersions = (
  file: FilePart,
  { at, count, strings }: Table,
): ReadonlyMap<number, NeededVersion> => {
  const versions = new Map<number, NeededVersion>()
  let place = at
  for (let index = 0; place !== undefined && index < Math.min(count, MAX_ENTRIES); index += 1) {
    const library: Buffer = file.read(place, 16)
    const name = textAt(strings, library.readUInt32LE(4))
    let entryAt = place + library.readUInt32LE(8)
    for (let left = library.readUInt16LE(2); left > 0; left -= 1) {
      const entry = file.read(entryAt, 16)
      versions.set(entry.readUInt16LE(6) & 0x7fff, {
        file: name,
        name: textAt(strings, entry.readUInt32LE(8)),
        weak: (entry.readUInt16LE(4) & WEAK) !== 0,
      })
      const next = entry.readUInt32LE(12)
      if (next === 0) break
      entryAt += next
    }
    place = following(place, library.readUInt32LE(12))
  }
  return versions
}

/** The versions that an object defines, by index. */
export const readDefinedVersions = (
  file: FilePart,
  { at, count, strings }: Table,
): ReadonlyMap<number, string> => {
  const versions = new Map<number, string>()
  let place = at
  for (let index = 0; place !== undefined && index < Math.min(count, MAX_ENTRIES); index += 1) {
    const entry: Buffer = file.read(place, 20)
    const nameAt = file.read(place + entry.readUInt32LE(12), 8).readUInt32LE(0)
    versions.set(entry.readUInt16LE(4), textAt(strings, nameAt))
    place = following(place, entry.readUInt32LE(16))
  }
  return versions
}

const following = (place: number, step: number): number | undefined => (step === 0 ? undefined : place + step)
