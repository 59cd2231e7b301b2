import type { Dirent } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import picomatch from 'picomatch'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { errnoOf, fileError } from '../platform/files.ts'
import type { Branch, Part } from './split-folder.ts'
import { splitFolder } from './split-folder.ts'
import type { Unit, UnitFile } from './unit.ts'
import { fingerprintOf, OWN_FOLDER } from './unit.ts'

const matchOptions = { dot: true }

const isTemporary = picomatch(
  ['*.tmp', '*.part', '*.partial', '*.incomplete', '*.crdownload', 'tmp-checkpoint-*', '.tmp-checkpoint-*'],
  matchOptions,
)
/** Left by other programs; they say nothing about the unit. */
const isNoise = picomatch(['.nfs*', '.syncthing.*', '~syncthing~*', `${OWN_FOLDER}*`], matchOptions)

/** Files looked at together: enough to keep the disk busy, few enough to leave the agent responsive. */
const LOOKS_AT_ONCE = 64

/**
 * Everything under a sync's path as units, by name. Symbolic links are not followed and not copied.
 * undefined: the path does not exist (yet, or any more).
 * @throws AgentError io_error when a folder cannot be read: a part must not pass for the whole
 */
export const listUnits = async (
  spec: SyncSpec,
  signal: AbortSignal,
): Promise<readonly Unit[] | undefined> => {
  const included = spec.include.length ? picomatch(spec.include, matchOptions) : () => true
  const excluded = spec.exclude.length ? picomatch(spec.exclude, matchOptions) : () => false
  const isCopied = (path: string): boolean => included(path) && !excluded(path)

  const entries = await readFolder(spec.path)
  if (entries === undefined) return undefined
  const units: Unit[] = []
  for (const entry of entries) {
    signal.throwIfAborted()
    if (isNoise(entry.text) || isTemporary(entry.text)) continue
    if (!entry.isFolder && !entry.isFile) continue
    for (const { name, kind, found } of await partsOf(entry, { spec, signal })) {
      const files = await lookAt(
        spec.path,
        found.paths.filter((path) => isCopied(path)),
      )
      const refused = found.refused.filter((path) => isCopied(path))
      if (files.length + refused.length > 0)
        units.push({ ...found, present: new Set(found.present), refused, name, kind, files })
    }
  }
  return units.sort((a, b) => (a.name < b.name ? -1 : 1))
}

type Entry = {
  readonly text: string
  readonly isFolder: boolean
  readonly isFile: boolean
  readonly isPlain: boolean
}

const partsOf = async (
  entry: Entry,
  { spec, signal }: { spec: SyncSpec; signal: AbortSignal },
): Promise<readonly Part[]> => {
  const { text: name, isFolder, isPlain } = entry
  if (isFolder && isPlain)
    return splitFolder(await readBranch(spec.path, { path: name, signal }), spec.complete_marker)
  const own: Own = { paths: [], present: [], temporary: [], refused: [] }
  if (isFolder) own.refused.push(name)
  else note(name, entry, own)
  return [{ name, kind: isFolder ? 'folder' : 'file', found: own }]
}

type Own = { paths: string[]; present: string[]; temporary: string[]; refused: string[] }

const readBranch = async (
  root: string,
  { path, signal }: { path: string; signal: AbortSignal },
): Promise<Branch> => {
  signal.throwIfAborted()
  const own: Own = { paths: [], present: [], temporary: [], refused: [] }
  const children: Branch[] = []
  for (const entry of (await readFolder(join(root, path))) ?? []) {
    const inside = `${path}/${entry.text}`
    if (isNoise(entry.text)) continue
    if (isTemporary(entry.text)) own.temporary.push(inside)
    else if (entry.isFile) note(inside, entry, own)
    else if (entry.isFolder && entry.isPlain) children.push(await readBranch(root, { path: inside, signal }))
    else if (entry.isFolder) own.refused.push(inside)
  }
  return { path, own, children }
}

const note = (path: string, entry: Entry, own: Own): void => {
  own.present.push(path)
  if (entry.isPlain) own.paths.push(path)
  else own.refused.push(path)
}

const readFolder = async (path: string): Promise<Entry[] | undefined> => {
  try {
    const entries = await readdir(path, { withFileTypes: true, encoding: 'buffer' })
    return entries.map(readEntry)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    if (errnoOf(error) === 'ENOTDIR')
      throw new AgentError('destination_invalid', `${path} is not a folder`, {
        hint: 'Name a folder in the sync’s “path”; its files are what is copied.',
      })
    throw fileError(error, `cannot read the folder ${path}`)
  }
}

/** A name may have 255 bytes, and `NAME~DIGEST.json`, the record of a version that was replaced, is one too. */
const LONGEST_NAME = 240
// eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
const REFUSED_CHARACTERS = /[\u0000-\u001f\u007f\\]/

const readEntry = (entry: Dirent<Buffer<ArrayBuffer>>): Entry => {
  const text = entry.name.toString('utf8')
  return {
    text,
    isFolder: entry.isDirectory(),
    isFile: entry.isFile(),
    // Lists of names are lines of text, and a pulled path is checked against the same rule on the laptop.
    isPlain:
      entry.name.length <= LONGEST_NAME &&
      Buffer.from(text).equals(entry.name) &&
      !REFUSED_CHARACTERS.test(text),
  }
}

const lookAt = async (root: string, paths: readonly string[]): Promise<UnitFile[]> => {
  const files: UnitFile[] = []
  for (let start = 0; start < paths.length; start += LOOKS_AT_ONCE) {
    const looks = paths.slice(start, start + LOOKS_AT_ONCE).map((path) => lookAtOne(root, path))
    for (const file of await Promise.all(looks)) if (file) files.push(file)
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1))
}

const lookAtOne = async (root: string, path: string): Promise<UnitFile | undefined> => {
  try {
    const stats = await lstat(join(root, path), { bigint: true })
    if (!stats.isFile()) return undefined
    return {
      path,
      sizeBytes: Number(stats.size),
      fingerprint: fingerprintOf(stats),
      modifiedMs: Number(stats.mtimeMs),
    }
  } catch (error) {
    // Removed between the listing and the look: the next look sees the folder without it.
    if (errnoOf(error) === 'ENOENT') return undefined
    throw fileError(error, `cannot look at ${join(root, path)}`)
  }
}
