import { readdirSync, realpathSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

/** A shared object of an environment. */
export type SiteObject = {
  readonly path: string
  /** Relative to its site folder: `torch/lib/libc10.so`. */
  readonly name: string
  readonly site: string
  /** True for a module that Python imports, false for a library. */
  readonly isModule: boolean
}

/** `module.cpython-311-x86_64-linux-gnu.so`, `module.abi3.so`; a library's name carries no Python. */
const MODULE = /\.(cpython-[^.]+|abi3)\.so$/

/** True for the name of a shared object. */
export const isObjectName = (name: string): boolean => /\.so(\.|$)/.test(name)

/** Every shared object under the sites, in their order; what is hidden is left out. */
export const listObjects = (sites: readonly string[], hidden: ReadonlySet<string>): readonly SiteObject[] =>
  sites.flatMap((site) => {
    const found: SiteObject[] = []
    const visit = (folder: string): void => {
      for (const entry of entriesOf(folder)) {
        const path = join(folder, entry.name)
        // A folder that is linked in is another environment's; a file often links to its full name.
        if (entry.isDirectory()) {
          if (entry.name !== '__pycache__') visit(path)
        } else if (isObjectName(entry.name) && !hidden.has(path) && isReadable(path))
          found.push({ path, name: relative(site, path), site, isModule: MODULE.test(basename(path)) })
      }
    }
    visit(site)
    return found
  })

const entriesOf = (folder: string) => {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    // Not there, or not ours to read: nothing of it will be imported by this user.
    return []
  }
}

const isReadable = (path: string): boolean => {
  try {
    realpathSync(path)
    return true
  } catch {
    // A link to nowhere.
    return false
  }
}
