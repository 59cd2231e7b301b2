import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { SiteObject } from './list-objects.ts'
import type { ObjectStore } from './object-store.ts'
import type { ElfObject } from './read-elf.ts'

/** The libraries that the loader brings for an object, and those it would not find. */
export type Closure = {
  readonly libraries: readonly ElfObject[]
  readonly missing: readonly string[]
  /** Libraries of the GPU driver, absent on machines without one. */
  readonly fromDriver: readonly string[]
}

type Places = {
  readonly store: ObjectStore
  readonly objects: readonly SiteObject[]
  readonly cache: ReadonlyMap<string, readonly string[]>
  /** LD_LIBRARY_PATH. */
  readonly libraryPath: string
}

const DEFAULT_FOLDERS = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
]

/** They come with the NVIDIA driver, never with a package. */
const DRIVER =
  /^lib(cuda|nvidia-ml|nvidia-ptxjitcompiler|nvidia-encode|nvidia-opticalflow|nvcuvid|nvoptix)\.so/

/** The search of the dynamic loader (ld.so(8)), for one environment. */
export const createLibrarySearch = ({ store, objects, cache, libraryPath }: Places) => {
  const fromPath = libraryPath.split(':').filter((folder) => folder.startsWith('/'))
  // Packages load each other's libraries before they are asked for by name: torch does so with nvidia/*/lib.
  const preloaded = new Map<string, string[]>()
  for (const { path, isModule } of objects)
    if (!isModule) preloaded.set(basename(path), [...(preloaded.get(basename(path)) ?? []), path])
  const known = new Map<string, ElfObject | undefined>()

  const find = (soname: string, folders: readonly string[], machine: number): ElfObject | undefined => {
    const key = `${machine} ${soname} ${folders.join(':')}`
    if (known.has(key)) return known.get(key)
    const candidates = [
      ...folders.map((folder) => join(folder, soname)),
      ...(cache.get(soname) ?? []),
      ...DEFAULT_FOLDERS.map((folder) => join(folder, soname)),
      ...(preloaded.get(basename(soname)) ?? []),
    ]
    const found = first(soname.startsWith('/') ? [soname] : candidates, (path) => {
      if (!existsSync(path)) return undefined
      const reading = store.read(path)
      return reading.state === 'object' && reading.object.machine === machine ? reading.object : undefined
    })
    known.set(key, found)
    return found
  }

  return (object: ElfObject): Closure => {
    const seen = new Map<string, ElfObject | undefined>()
    const missing: string[] = []
    const fromDriver: string[] = []
    const queue: { readonly object: ElfObject; readonly rpath: readonly string[] }[] = [
      { object, rpath: object.rpath },
    ]
    for (let next = queue.shift(); next !== undefined; next = queue.shift())
      for (const soname of next.object.needed) {
        if (seen.has(soname)) continue
        const { runpath, machine } = next.object
        // RUNPATH switches RPATH off, and is not handed on to what the library needs.
        const folders = runpath.length > 0 ? [...fromPath, ...runpath] : [...next.rpath, ...fromPath]
        const library = find(soname, folders, machine)
        seen.set(soname, library)
        if (library !== undefined) queue.push({ object: library, rpath: [...library.rpath, ...next.rpath] })
        else if (DRIVER.test(soname)) fromDriver.push(soname)
        else if (!soname.startsWith('ld-linux')) missing.push(soname)
      }
    return {
      libraries: [...seen.values()].filter((library) => library !== undefined),
      missing,
      fromDriver,
    }
  }
}

const first = <A, B>(items: readonly A[], look: (item: A) => B | undefined): B | undefined => {
  for (const item of items) {
    const found = look(item)
    if (found !== undefined) return found
  }
  return undefined
}
