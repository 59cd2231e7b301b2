import { realpathSync } from 'node:fs'
import type { ElfObject, ElfReading } from './read-elf.ts'
import { readElf } from './read-elf.ts'
import type { ElfSymbols } from './read-symbols.ts'
import { readSymbols } from './read-symbols.ts'

/** Objects that were read, by real path. Heads are kept; symbol tables are kept up to a bound. */
export type ObjectStore = {
  read(path: string): ElfReading
  /** @throws Error when the tables are damaged */
  symbols(object: ElfObject): ElfSymbols
  definedVersions(object: ElfObject): ReadonlySet<string>
}

/** Torch's libraries take some 30 MB; the whole check is to stay below 150 MB. */
const SYMBOL_TABLE_BYTES = 48e6

export const createObjectStore = (maxBytes = SYMBOL_TABLE_BYTES): ObjectStore => {
  const heads = new Map<string, ElfReading>()
  const versions = new Map<string, ReadonlySet<string>>()
  // The oldest use comes first in the order of a Map.
  const tables = new Map<string, ElfSymbols>()
  let bytes = 0
  const symbols = (object: ElfObject): ElfSymbols => {
    const known = tables.get(object.path)
    tables.delete(object.path)
    const made = known ?? readSymbols(object)
    tables.set(object.path, made)
    if (known !== undefined) return made
    bytes += made.sizeBytes
    for (const [path, old] of tables) {
      if (bytes <= maxBytes || path === object.path) break
      tables.delete(path)
      bytes -= old.sizeBytes
    }
    return made
  }
  return {
    read: (path) => {
      const real = realpathSync(path)
      const known = heads.get(real)
      if (known !== undefined) return known
      const reading = readElf(real)
      heads.set(real, reading)
      return reading
    },
    symbols,
    definedVersions: (object) => {
      const known = versions.get(object.path) ?? symbols(object).definedVersions
      versions.set(object.path, known)
      return known
    },
  }
}
