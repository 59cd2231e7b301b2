import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import type { AbiAnswer, AbiFinding, AbiLayout, GpuObject } from './abi-layout.ts'
import { createLibrarySearch } from './find-libraries.ts'
import type { Closure } from './find-libraries.ts'
import { readGpuCode } from './gpu-code.ts'
import type { SiteObject } from './list-objects.ts'
import { listObjects } from './list-objects.ts'
import { readLoaderCache } from './loader-cache.ts'
import { functionStart } from './mangled-name.ts'
import { readNumpyNeed, servesNumpy } from './numpy-need.ts'
import type { ObjectStore } from './object-store.ts'
import { createObjectStore } from './object-store.ts'
import type { ElfObject } from './read-elf.ts'
import type { ElfSymbols, WantedSymbol } from './read-symbols.ts'

/*
 * Would every shared object of an environment load? The question is answered from the files alone, as the dynamic
 * loader would: Python binds every symbol when it imports a module (RTLD_NOW), so one that nobody exports is fatal.
 */

/** An object with more than this is wholly for something else; the first ones tell what for. */
const MAX_SYMBOLS = 20

/** Checks the objects of an environment. Synchronous and busy: it belongs into a thread of its own. */
export const checkObjects = (layout: AbiLayout): AbiAnswer => {
  const store = createObjectStore()
  const objects = listObjects(layout.sites, new Set(layout.hidden))
  const closureOf = createLibrarySearch({
    store,
    objects,
    cache: readLoaderCache(),
    libraryPath: layout.libraryPath,
  })
  const nameOf = (path: string): string => {
    const site = layout.sites.find((folder) => path.startsWith(`${folder}/`))
    return site === undefined ? path : relative(site, path)
  }
  const program = store.read(layout.interpreter)
  const loaded = program.state === 'object' ? [program.object, ...closureOf(program.object).libraries] : []
  const shared = [...loaded, ...torchLibraries(layout.sites, store)]
  const findings: AbiFinding[] = []
  const driverProvided: string[] = []
  const gpu: GpuObject[] = []
  const seen = new Set<string>()
  for (const site of objects) {
    const real = realpathSync(site.path)
    if (seen.has(real)) continue
    seen.add(real)
    const say = (finding: Omit<AbiFinding, 'file' | 'path'>) =>
      findings.push({ file: site.name, path: site.path, ...finding })
    const reading = store.read(real)
    if (reading.state === 'damaged') say({ kind: 'damaged', what: reading.reason })
    if (reading.state !== 'object') continue
    const { object } = reading
    if (program.state === 'object' && object.machine !== program.object.machine) continue
    try {
      if (isForAnotherPython(site, layout.suffixes)) {
        say({ kind: 'python', what: basename(site.path) })
        continue
      }
      const closure = closureOf(object)
      if (closure.fromDriver.length > 0) driverProvided.push(site.name)
      const wanted = checkObject(object, { closure, shared, objects, store, nameOf, say })
      if (wanted.usesPython) checkNumpy(site, { layout, say })
      if (layout.withGpuCode.some((folder) => site.path.startsWith(`${folder}/`))) {
        const code = readGpuCode(site.path)
        if (code !== null) gpu.push({ file: site.name, code })
      }
    } catch (error) {
      say({ kind: 'damaged', what: error instanceof Error ? error.message : String(error) })
    }
  }
  return { objects: seen.size, findings, driverProvided, gpu }
}

type ObjectContext = {
  readonly closure: Closure
  readonly shared: readonly ElfObject[]
  readonly objects: readonly SiteObject[]
  readonly store: ObjectStore
  readonly nameOf: (path: string) => string
  readonly say: (finding: Omit<AbiFinding, 'file' | 'path'>) => void
}

const checkObject = (object: ElfObject, context: ObjectContext): { usesPython: boolean } => {
  const { closure, shared, store, say, nameOf } = context
  for (const name of closure.missing) {
    // The same library in another version says what it was built for.
    const stem = name.replace(/\.so\..*$/, '.so')
    const other = context.objects.find((one) => basename(one.path).startsWith(stem))
    say({ kind: 'library', what: name, ...(other === undefined ? {} : { provider: other.name }) })
  }
  // The store’s own order of use is costly for each of a million questions.
  const held = new Map<ElfObject, ElfSymbols>()
  const symbolsOf = (one: ElfObject): ElfSymbols => {
    const made = held.get(one) ?? store.symbols(one)
    held.set(one, made)
    return made
  }
  const symbols = symbolsOf(object)
  const lacking = new Set<string>()
  for (const { file, name, weak } of symbols.neededVersions) {
    const provider = closure.libraries.find((one) => (one.soname ?? basename(one.path)) === file)
    if (weak || provider === undefined) continue
    const defined = store.definedVersions(provider)
    if (defined.size === 0 || defined.has(name)) continue
    lacking.add(name)
    say({ kind: 'version', what: name, provider: nameOf(provider.path) })
  }
  let usesPython = false
  let count = 0
  // Where a library is missing the loader stops there; its symbols would be listed for nothing.
  const complete = closure.missing.length === 0
  for (const wanted of symbols.wanted()) {
    const isPythons = /^_?Py/.test(wanted.name)
    usesPython ||= isPythons
    if (!complete || count >= MAX_SYMBOLS) continue
    if (wanted.version !== undefined && lacking.has(wanted.version.name)) continue
    if (closure.fromDriver.length > 0 && /^(cu[A-Z]|nvml|nvEnc|NvEnc|cuvid)/.test(wanted.name)) continue
    const scope = isPythons
      ? [...shared, object, ...closure.libraries]
      : [...ofVersion(wanted, closure), object, ...closure.libraries, ...shared]
    if (scope.some((one) => provides(symbolsOf(one), wanted))) continue
    count += 1
    const start = functionStart(wanted.name)
    const other =
      start === undefined
        ? undefined
        : [...closure.libraries, ...shared].find((one) => symbolsOf(one).nameBeginning(start) !== undefined)
    say({
      kind: 'symbol',
      what: wanted.name,
      ...(wanted.version === undefined ? {} : { version: wanted.version.name }),
      ...(other === undefined || start === undefined
        ? {}
        : { provider: nameOf(other.path), instead: symbolsOf(other).nameBeginning(start) ?? '' }),
    })
  }
  return { usesPython }
}

/** The library that had the version when the object was linked: nearly always the right one. */
const ofVersion = ({ version }: WantedSymbol, closure: Closure): ElfObject[] =>
  version === undefined ? [] : closure.libraries.filter((one) => one.soname === version.file)

const provides = (symbols: ElfSymbols, wanted: WantedSymbol): boolean => {
  const versions = symbols.versionsOf(wanted.name)
  if (versions === undefined) return false
  return (
    wanted.version === undefined ||
    versions.includes(wanted.version.name) ||
    versions.includes(null) ||
    symbols.definedVersions.size === 0
  )
}

/** Python looks for its own suffixes and passes over the rest, so that the import finds no module. */
const isForAnotherPython = (site: SiteObject, suffixes: readonly string[]): boolean => {
  const name = basename(site.path)
  return site.isModule && suffixes.length > 0 && !suffixes.includes(name.slice(name.indexOf('.')))
}

const checkNumpy = (
  site: SiteObject,
  { layout, say }: Pick<ObjectContext, 'say'> & { layout: AbiLayout },
): void => {
  if (layout.numpy === null || /^(numpy|torch\/lib|nvidia|triton)\//.test(site.name)) return
  const need = readNumpyNeed(site.path)
  if (need === null || servesNumpy(need, layout.numpy)) return
  say({ kind: 'numpy', what: need.kind === 'below-2' ? 'numpy<2' : `numpy>=${need.version}` })
}

/** Torch's own libraries: modules that are built for torch find them loaded. */
const torchLibraries = (sites: readonly string[], store: ObjectStore): ElfObject[] => {
  const folder = sites.map((site) => join(site, 'torch', 'lib')).find(existsSync)
  if (folder === undefined) return []
  return readdirSync(folder)
    .filter((name) => /^lib(c10|torch|shm).*\.so$/.test(name))
    .flatMap((name) => {
      const reading = store.read(join(folder, name))
      return reading.state === 'object' ? [reading.object] : []
    })
}
