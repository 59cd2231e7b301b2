import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { oldHashOf, writeGnuHash, writeHead, writeNeed, writeOldHash } from './elf-tables.ts'
import type { Section } from './sections.ts'
import { appendSections } from './sections.ts'

/*
 * Real, loadable shared objects for x86-64, made without a compiler: one segment that may be read, written and run
 * holds the tables, the code and the data. The loader has to find every undefined symbol, for each has a relocation.
 */

export type ElfOptions = {
  readonly needed?: readonly string[]
  readonly soname?: string
  readonly rpath?: string
  readonly runpath?: string
  /** Functions that return at once. */
  readonly exports?: readonly string[]
  readonly undefined?: readonly string[]
  /** Undefined symbols that may be missing. */
  readonly weak?: readonly string[]
  /** Undefined symbols with the version of a library. */
  readonly versioned?: readonly {
    readonly library: string
    readonly version: string
    readonly symbol: string
  }[]
  /** The version under which the exports are defined. */
  readonly defines?: string
  /** Makes it a Python module of this name. */
  readonly module?: string
  /** What the module does when it is imported: nothing wrong, or an instruction that kills the process. */
  readonly init?: 'fine' | 'crash'
  /** Bytes that lie somewhere in it. */
  readonly contains?: string
  readonly sections?: readonly Section[]
  /** The old table of names instead of the GNU one. */
  readonly oldHash?: boolean
}

type Symbol = {
  readonly name: string
  readonly info: number
  readonly version: number
  /** Offset of its code where it is defined. */
  readonly code: number | null
}

const GLOBAL = 0x10
const GLOBAL_FUNCTION = 0x12
const WEAK = 0x20
const R_GLOB_DAT = 6n
const R_RELATIVE = 8n

/** Writes an object to a file and returns the path. */
export const writeElf = (path: string, options: ElfOptions): string => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, makeElf(options))
  return path
}

/** The bytes of an object. Same options, same bytes. */
export const makeElf = (options: ElfOptions): Buffer => {
  const { needed = [], exports = [], versioned = [], module } = options
  const strings = createStrings()
  const libraries = [...new Set(versioned.map((one) => one.library))]
  // 0 and 1 mean “no version”; the object’s own version comes before those it needs.
  const firstVersion = options.defines === undefined ? 2 : 4
  const versions = [...new Set(versioned.map((one) => `${one.library}\n${one.version}`))]
  const indexOf = (library: string, version: string): number =>
    firstVersion + versions.indexOf(`${library}\n${version}`)
  const wanted: Symbol[] = [
    ...(options.undefined ?? []).map((name) => ({ name, info: GLOBAL, version: 1, code: null })),
    ...(options.weak ?? []).map((name) => ({ name, info: WEAK, version: 1, code: null })),
    ...versioned.map((one) => ({
      name: one.symbol,
      info: GLOBAL,
      version: indexOf(one.library, one.version),
      code: null,
    })),
    ...(module === undefined ? [] : [{ name: 'PyModuleDef_Init', info: GLOBAL, version: 1, code: null }]),
  ]
  const ownVersion = options.defines === undefined ? 1 : 3
  const defined: Symbol[] = [
    ...exports.map((name, index) => ({
      name,
      info: GLOBAL_FUNCTION,
      version: ownVersion,
      code: 16 * (index + 1),
    })),
    ...(module === undefined
      ? []
      : [{ name: `PyInit_${module}`, info: GLOBAL_FUNCTION, version: ownVersion, code: 0 }]),
  ]
  const symbols: Symbol[] = [{ name: '', info: 0, version: 0, code: null }, ...wanted, ...defined]
  const nameOffsets = symbols.map((symbol) => strings.add(symbol.name))
  const text = (value: string | undefined): number => (value === undefined ? 0 : strings.add(value))
  const [soname, rpath, runpath, defines] = [
    options.soname,
    options.rpath,
    options.runpath,
    options.defines,
  ].map(text)
  const neededOffsets = needed.map(strings.add)
  const libraryOffsets = libraries.map(strings.add)
  const versionOffsets = versions.map((one) => strings.add(one.split('\n')[1] ?? ''))
  const hasVersions = versions.length > 0 || options.defines !== undefined

  const place = createLayout(64 + 56 * 3)
  const hashAt = place(options.oldHash ? (3 + symbols.length) * 4 : 16 + 8 + 4 + defined.length * 4)
  const symbolsAt = place(symbols.length * 24)
  const stringsAt = place(strings.bytes().length)
  const relocationsAt = place((wanted.length + 1) * 24)
  const versionsAt = place(hasVersions ? symbols.length * 2 : 0)
  const needAt = place((libraries.length + versions.length) * 16)
  const defineAt = place(options.defines === undefined ? 0 : 2 * 28)
  const codeAt = place(16 * (exports.length + 1), 16)
  const moduleAt = place(104) // struct PyModuleDef
  const moduleNameAt = place((module?.length ?? 0) + 1)
  const slotsAt = place((wanted.length + 1) * 8)
  const containsAt = place(options.contains?.length ?? 0)
  const dynamicAt = place((needed.length + 20) * 16)
  const size = place(0)
  const bytes = Buffer.alloc(size)
  const put64 = (value: number | bigint, at: number): void => {
    bytes.writeBigUInt64LE(BigInt(value), at)
  }

  strings.bytes().copy(bytes, stringsAt)
  bytes.write(options.contains ?? '', containsAt, 'latin1')
  for (const [index, symbol] of symbols.entries()) {
    const at = symbolsAt + index * 24
    bytes.writeUInt32LE(nameOffsets[index] ?? 0, at)
    bytes[at + 4] = symbol.info
    // Any section index but 0 means that it is defined here.
    bytes.writeUInt16LE(symbol.code === null ? 0 : 5, at + 6)
    put64(symbol.code === null ? 0 : codeAt + symbol.code, at + 8)
    if (hasVersions) bytes.writeUInt16LE(symbol.version, versionsAt + index * 2)
  }
  if (options.oldHash) writeOldHash(bytes, { at: hashAt, count: symbols.length })
  else writeGnuHash(bytes, { at: hashAt, first: 1 + wanted.length, names: defined.map(({ name }) => name) })
  for (const index of wanted.keys()) {
    put64(slotsAt + index * 8, relocationsAt + index * 24)
    put64((BigInt(1 + index) << 32n) | R_GLOB_DAT, relocationsAt + index * 24 + 8)
  }
  for (const index of exports.keys()) bytes[codeAt + 16 * (index + 1)] = 0xc3 // ret
  if (module !== undefined) {
    const at = relocationsAt + wanted.length * 24 // the module’s name
    put64(moduleAt + 40, at)
    put64(R_RELATIVE, at + 8)
    put64(moduleNameAt, at + 16)
    put64(1, moduleAt) // one reference
    bytes.write(module, moduleNameAt, 'latin1')
    const slot = slotsAt + (wanted.length - 1) * 8
    if (options.init === 'crash')
      bytes.set([0x0f, 0x0b], codeAt) // ud2
    else {
      // lea rdi, [module]; jmp [PyModuleDef_Init]
      bytes.set([0x48, 0x8d, 0x3d], codeAt)
      bytes.writeInt32LE(moduleAt - (codeAt + 7), codeAt + 3)
      bytes.set([0xff, 0x25], codeAt + 7)
      bytes.writeInt32LE(slot - (codeAt + 13), codeAt + 9)
    }
  }
  let needPlace = needAt
  for (const [index, library] of libraries.entries()) {
    const own = versions.flatMap((one, at) => (one.startsWith(`${library}\n`) ? [at] : []))
    const next = index + 1 < libraries.length ? 16 + 16 * own.length : 0
    writeNeed(bytes, needPlace, { library: libraryOffsets[index] ?? 0, count: own.length, next })
    for (const [order, at] of own.entries()) {
      const entry = needPlace + 16 + order * 16
      bytes.writeUInt32LE(oldHashOf(versions[at]?.split('\n')[1] ?? ''), entry)
      bytes.writeUInt16LE(firstVersion + at, entry + 6)
      bytes.writeUInt32LE(versionOffsets[at] ?? 0, entry + 8)
      bytes.writeUInt32LE(order + 1 < own.length ? 16 : 0, entry + 12)
    }
    needPlace += 16 + 16 * own.length
  }
  if (options.defines !== undefined)
    for (const [order, [index, name, text]] of [
      [1, soname ?? 0, options.soname ?? ''] as const,
      [3, defines ?? 0, options.defines] as const,
    ].entries()) {
      const at = defineAt + order * 28
      bytes.writeUInt16LE(1, at)
      bytes.writeUInt16LE(order === 0 ? 1 : 0, at + 2) // the first one names the object itself
      bytes.writeUInt16LE(index, at + 4)
      bytes.writeUInt16LE(1, at + 6)
      bytes.writeUInt32LE(oldHashOf(text), at + 8)
      bytes.writeUInt32LE(20, at + 12)
      bytes.writeUInt32LE(order === 0 ? 28 : 0, at + 16)
      bytes.writeUInt32LE(name, at + 20)
    }

  const tags: (readonly [number, number])[] = [
    ...neededOffsets.map((offset) => [1, offset] as const),
    ...(options.soname === undefined ? [] : [[14, soname ?? 0] as const]),
    ...(options.rpath === undefined ? [] : [[15, rpath ?? 0] as const]),
    ...(options.runpath === undefined ? [] : [[29, runpath ?? 0] as const]),
    [options.oldHash ? 4 : 0x6fff_fef5, hashAt],
    [5, stringsAt],
    [6, symbolsAt],
    [10, strings.bytes().length],
    [11, 24],
    [7, relocationsAt],
    [8, (wanted.length + (module === undefined ? 0 : 1)) * 24],
    [9, 24],
    ...(hasVersions ? [[0x6fff_fff0, versionsAt] as const] : []),
    ...(versions.length > 0
      ? [[0x6fff_fffe, needAt] as const, [0x6fff_ffff, libraries.length] as const]
      : []),
    ...(options.defines === undefined ? [] : [[0x6fff_fffc, defineAt] as const, [0x6fff_fffd, 2] as const]),
    [0, 0],
  ]
  for (const [index, [tag, value]] of tags.entries()) {
    put64(tag, dynamicAt + index * 16)
    put64(value, dynamicAt + index * 16 + 8)
  }
  writeHead(bytes, { size, dynamicAt, dynamicBytes: tags.length * 16 })
  return options.sections === undefined ? bytes : appendSections(bytes, options.sections)
}

const createStrings = () => {
  const parts: Buffer[] = [Buffer.from([0])]
  let length = 1
  return {
    add: (text: string): number => {
      if (text === '') return 0
      const at = length
      parts.push(Buffer.from(`${text}\0`, 'latin1'))
      length += text.length + 1
      return at
    },
    bytes: (): Buffer => Buffer.concat(parts),
  }
}

const createLayout = (start: number) => {
  let next = start
  return (length: number, align = 8): number => {
    const at = Math.ceil(next / align) * align
    next = at + length
    return at
  }
}
