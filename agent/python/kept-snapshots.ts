import { existsSync, readdirSync, statSync } from 'node:fs'
import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/*
 * What an overlay was before each of its last installs, so that they can be taken back later:
 * `kept-ID` beside the overlay, ID being the install.
 */

export type KeepLimits = { readonly count: number; readonly bytes: number }

/** An overlay is small beside its base, but one with a large package in it is not. */
export const KEEP_LIMITS: KeepLimits = { count: 5, bytes: 10 * 2 ** 30 }

/** Where the snapshot before an install is kept. */
export const keptPath = (root: string, id: string): string => join(root, `kept-${id}`)

/** True while an install can be taken back. */
export const isKept = (root: string, id: string): boolean => existsSync(keptPath(root, id))

/** Lets the oldest snapshots go beyond the limits. */
export const trimKept = async (root: string, limits: KeepLimits): Promise<void> => {
  let bytes = 0
  for (const [index, path] of keptNewestFirst(root).entries()) {
    bytes += index < limits.count ? await folderBytes(path) : 0
    if (index >= limits.count || bytes > limits.bytes) await rm(path, { recursive: true, force: true })
  }
}

/** Removes every kept snapshot that `isWanted` does not want. */
export const dropKept = async (root: string, isWanted: (id: string) => boolean): Promise<void> => {
  for (const name of readdirSync(root)) {
    const id = /^kept-([0-9a-f]{12})$/.exec(name)?.[1]
    if (id !== undefined && !isWanted(id)) await rm(join(root, name), { recursive: true, force: true })
  }
}

/** A rename sets the change time of what was renamed: the order in which they were made. */
const keptNewestFirst = (root: string): string[] =>
  readdirSync(root)
    .filter((name) => /^kept-[0-9a-f]{12}$/.test(name))
    .map((name) => join(root, name))
    .map((path) => ({ path, keptAt: statSync(path).ctimeMs }))
    .sort((a, b) => b.keptAt - a.keptAt)
    .map(({ path }) => path)

const folderBytes = async (folder: string): Promise<number> => {
  let bytes = 0
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name))).size
  return bytes
}
