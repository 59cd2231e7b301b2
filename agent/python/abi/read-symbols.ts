import { hashOf, readGnuHash } from './gnu-hash.ts'
import type { GnuHash } from './gnu-hash.ts'
import type { ElfObject, FilePart } from './read-elf.ts'
import { offsetOf, TAG, textAt, withFile } from './read-elf.ts'
import type { NeededVersion } from './read-versions.ts'
import { readDefinedVersions, readNeededVersions } from './read-versions.ts'

/** A symbol that an object wants from somewhere else. */
export type WantedSymbol = {
  readonly name: string
  /** The version it was linked with, and the library that had it. */
  readonly version: NeededVersion | undefined
}

/** The dynamic symbols of one object, held in memory. */
export type ElfSymbols = {
  readonly sizeBytes: number
  /** Undefined symbols that have to be there: weak ones are optional. */
  wanted(): Iterable<WantedSymbol>
  /** The versions under which a name is defined (null: without one); undefined when it is not. */
  versionsOf(name: string): readonly (string | null)[] | undefined
  /** The first defined name that begins so. */
  nameBeginning(start: string): string | undefined
  readonly neededVersions: readonly NeededVersion[]
  readonly definedVersions: ReadonlySet<string>
}

const SYMBOL_BYTES = 24
const GLOBAL = 1
const LOCAL = 0
/** More symbols than any library has: a larger number comes from a damaged file. */
const MAX_SYMBOLS = 20_000_000

/** Reads the symbol tables of an object. @throws Error when they are damaged */
export const readSymbols = (object: ElfObject): ElfSymbols =>
  withFile(object.path, (file) => {
    const { tags } = object
    const place = (tag: number): number | undefined => {
      const address = tags.get(tag)
      return address === undefined ? undefined : offsetOf(object, address)
    }
    const stringsAt = place(TAG.strings)
    const symbolsAt = place(TAG.symbols)
    if (stringsAt === undefined || symbolsAt === undefined) return noSymbols
    const strings = file.read(stringsAt, tags.get(TAG.stringBytes) ?? 0)
    const gnuAt = place(TAG.gnuHash)
    const gnu = gnuAt === undefined ? undefined : readGnuHash(file, gnuAt)
    const count = countSymbols(file, { gnu, hashAt: place(TAG.hash), stringsAt, symbolsAt })
    const symbols = file.read(symbolsAt, count * SYMBOL_BYTES)
    const versionsAt = place(TAG.versions)
    const versions = versionsAt === undefined ? undefined : file.read(versionsAt, count * 2)
    const needed = readNeededVersions(file, {
      at: place(TAG.neededVersions),
      count: tags.get(TAG.neededVersionCount) ?? 0,
      strings,
    })
    const defined = readDefinedVersions(file, {
      at: place(TAG.definedVersions),
      count: tags.get(TAG.definedVersionCount) ?? 0,
      strings,
    })
    return makeSymbols({ strings, symbols, versions, gnu, count, needed, defined })
  })

type Tables = {
  readonly strings: Buffer
  readonly symbols: Buffer
  readonly versions: Buffer | undefined
  readonly gnu: GnuHash | undefined
  readonly count: number
  readonly needed: ReadonlyMap<number, NeededVersion>
  readonly defined: ReadonlyMap<number, string>
}

const makeSymbols = (tables: Tables): ElfSymbols => {
  const { strings, symbols, versions, gnu, count, needed, defined } = tables
  const isDefined = (index: number): boolean => symbols.readUInt16LE(index * SYMBOL_BYTES + 6) !== 0
  const binding = (index: number): number => (symbols[index * SYMBOL_BYTES + 4] ?? 0) >> 4
  const nameOf = (index: number): string => textAt(strings, symbols.readUInt32LE(index * SYMBOL_BYTES))
  // The highest bit hides a version from the linker, not from the loader.
  const versionIndex = (index: number): number => (versions?.readUInt16LE(index * 2) ?? 1) & 0x7fff
  let names: Map<string, number[]> | undefined
  const indexNames = (): Map<string, number[]> => {
    const made = new Map<string, number[]>()
    for (let index = 1; index < count; index += 1)
      if (isDefined(index) && binding(index) !== LOCAL)
        made.set(nameOf(index), [...(made.get(nameOf(index)) ?? []), index])
    return made
  }
  const places = (name: string): readonly number[] =>
    gnu === undefined
      ? ((names ??= indexNames()).get(name) ?? [])
      : gnu.candidates(hashOf(name)).filter((index) => isDefined(index) && nameOf(index) === name)

  return {
    sizeBytes: strings.length + symbols.length + (versions?.length ?? 0) + (gnu?.sizeBytes ?? 0),
    *wanted() {
      for (let index = 1; index < count; index += 1) {
        if (isDefined(index) || binding(index) !== GLOBAL) continue
        const name = nameOf(index)
        if (name !== '') yield { name, version: needed.get(versionIndex(index)) }
      }
    },
    versionsOf: (name) => {
      const found = places(name)
      if (found.length === 0) return undefined
      // 0 and 1 stand for “no version”.
      return found.map((index) =>
        versionIndex(index) > 1 ? (defined.get(versionIndex(index)) ?? null) : null,
      )
    },
    nameBeginning: (start) => {
      for (
        let at = strings.indexOf(`\0${start}`, 0, 'latin1');
        at >= 0;
        at = strings.indexOf(`\0${start}`, at + 1, 'latin1')
      ) {
        const name = textAt(strings, at + 1)
        if (places(name).length > 0) return name
      }
      return undefined
    },
    neededVersions: [...needed.values()],
    definedVersions: new Set(defined.values()),
  }
}

const countSymbols = (
  file: FilePart,
  of: { gnu: GnuHash | undefined; hashAt: number | undefined; stringsAt: number; symbolsAt: number },
): number => {
  const { gnu, hashAt, stringsAt, symbolsAt } = of
  const count =
    gnu?.symbolCount ??
    (hashAt !== undefined
      ? file.read(hashAt + 4, 4).readUInt32LE(0)
      : // Without exports the GNU table tells no number; linkers put the strings right behind the symbols.
        Math.max(0, Math.floor((stringsAt - symbolsAt) / SYMBOL_BYTES)))
  if (count > MAX_SYMBOLS) throw new Error('its symbol table cannot be read')
  return count
}

const noSymbols: ElfSymbols = {
  sizeBytes: 0,
  wanted: () => [],
  versionsOf: () => undefined,
  nameBeginning: () => undefined,
  neededVersions: [],
  definedVersions: new Set(),
}
