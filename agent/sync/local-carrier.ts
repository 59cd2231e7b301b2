import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { access, link, lstat, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { makeFolders } from '../../shared/make-folders.ts'
import { errnoOf, fileError, joinInside, refuseSymlinks, syncFolder } from '../platform/files.ts'
import type { Carrier, PutFile, RemoteFile } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import { OWN_FOLDER } from './unit.ts'

const COPY_BYTES = 2 ** 20

/**
 * A destination on a disk of this box (a mounted volume, say). Bytes are written under a temporary name in
 * `.gpu-agent/incoming`, flushed, and renamed into place; a folder that is new appears whole, by one rename.
 * @param context.owner the same for the same sync of the same agent, and for nobody else: what a killed copy left
 *   there is taken away by the next one
 */
export const createLocalCarrier = (root: string, context: { hashFile: HashFile; owner: string }): Carrier => {
  const owner = createHash('sha256').update(`${hostname()} ${context.owner}`).digest('hex').slice(0, 12)
  const stage = join(root, OWN_FOLDER, 'incoming', owner)

  const describe = async (path: string, signal: AbortSignal): Promise<RemoteFile | undefined> => {
    const target = joinInside(root, path)
    const stats = await lstat(target).catch(absent)
    if (!stats?.isFile()) return undefined
    return {
      sizeBytes: stats.size,
      hashes: await context.hashFile(target, { algorithms: ['sha256'], signal }),
    }
  }

  const list: Carrier['list'] = async (paths, { signal }) => {
    const found = new Map<string, RemoteFile>()
    if (paths === 'everything') await walkSizes(root, '', { found, signal })
    else
      for (const path of paths) {
        const file = await describe(path, signal)
        if (file) found.set(path, file)
      }
    return found
  }

  const put: Carrier['put'] = async (files, options) => {
    try {
      await rm(stage, { recursive: true, force: true })
      let bytesDone = 0
      for (const file of files) {
        await copyFile(file, joinInside(stage, file.path), {
          signal: options.signal,
          onBytes: (bytes) => options.onProgress?.((bytesDone += bytes)),
        })
      }
      await place(files, { root, stage, last: options.last })
    } catch (error) {
      options.signal.throwIfAborted()
      throw storeError(error, root)
    } finally {
      await rm(stage, { recursive: true, force: true })
    }
  }

  const keep: Carrier['keep'] = async (pairs, options) => {
    for (const { from, to } of pairs) {
      options.signal.throwIfAborted()
      const target = joinInside(root, to)
      await refuseSymlinks(root, target)
      await makeFolders(dirname(target))
      try {
        // The new version replaces the name, not the inode, so a second name keeps the old bytes.
        await link(joinInside(root, from), target)
      } catch (error) {
        if (errnoOf(error) === 'EEXIST') continue
        await put([{ from: joinInside(root, from), path: to, sizeBytes: 0 }], {
          ...options,
          last: new Set(),
          isNew: true,
        })
      }
    }
  }

  return {
    list,
    put,
    keep,
    read: async (paths) => {
      const texts = new Map<string, string>()
      for (const path of paths) {
        const text = await readFile(joinInside(root, path), 'utf8').catch((error: unknown) => {
          if (errnoOf(error) === 'ENOENT') return undefined
          throw storeError(error, root)
        })
        if (text !== undefined) texts.set(path, text)
      }
      return texts
    },
    namedHash: () => 'sha256',
  }
}

const absent = (error: unknown): undefined => {
  if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined
  throw error
}

const walkSizes = async (
  root: string,
  folder: string,
  context: { found: Map<string, RemoteFile>; signal: AbortSignal },
): Promise<void> => {
  context.signal.throwIfAborted()
  const entries = await readdir(join(root, folder), { withFileTypes: true }).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return []
    throw storeError(error, root)
  })
  for (const entry of entries) {
    const path = folder ? `${folder}/${entry.name}` : entry.name
    if (entry.isDirectory() && path !== `${OWN_FOLDER}/incoming`) await walkSizes(root, path, context)
    const stats = entry.isFile() ? await lstat(join(root, path)).catch(absent) : undefined
    if (stats) context.found.set(path, { sizeBytes: stats.size, hashes: {} })
  }
}

const copyFile = async (
  { from }: PutFile,
  to: string,
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<void> => {
  await makeFolders(dirname(to))
  const source = await open(from, 'r')
  try {
    const target = await open(to, 'wx')
    try {
      await copyBytes(source, target, options)
      await target.sync()
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

const copyBytes = async (
  source: FileHandle,
  target: FileHandle,
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<void> => {
  const buffer = Buffer.allocUnsafe(COPY_BYTES)
  for (let at = 0; ;) {
    options.signal.throwIfAborted()
    const { bytesRead } = await source.read(buffer, 0, COPY_BYTES, at)
    if (bytesRead === 0) return
    for (let written = 0; written < bytesRead;)
      written += (await target.write(buffer, written, bytesRead - written, at + written)).bytesWritten
    at += bytesRead
    options.onBytes(bytesRead)
  }
}

const place = async (
  files: readonly PutFile[],
  context: { root: string; stage: string; last: ReadonlySet<string> },
): Promise<void> => {
  const { root, stage, last } = context
  const fresh = await findFreshFolder(files, root)
  if (fresh !== undefined) {
    await refuseSymlinks(root, join(root, fresh))
    await rename(join(stage, fresh), join(root, fresh))
    syncFolder(dirname(join(root, fresh)))
    return
  }
  const ordered = [...files].sort((a, b) => Number(last.has(a.path)) - Number(last.has(b.path)))
  for (const { path } of ordered) {
    const target = joinInside(root, path)
    await refuseSymlinks(root, target)
    await makeFolders(dirname(target))
    await rename(joinInside(stage, path), target)
    syncFolder(dirname(target))
  }
}

/** The outermost folder that holds all of the files and is not there yet. */
const findFreshFolder = async (files: readonly PutFile[], root: string): Promise<string | undefined> => {
  const [first = []] = files.map(({ path }) => path.split('/').slice(0, -1))
  for (let depth = 1; depth <= first.length; depth += 1) {
    const folder = first.slice(0, depth).join('/')
    if (folder === OWN_FOLDER || !files.every(({ path }) => path.startsWith(`${folder}/`))) return undefined
    if (!(await exists(join(root, folder)))) return folder
  }
  return undefined
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

/** A full or read-only destination is the remote's trouble, not the box's: it has codes of its own. */
const storeError = (error: unknown, root: string): unknown => {
  const known = fileError(error, `cannot store in ${root}`)
  if (!(known instanceof AgentError)) return known
  const code =
    known.code === 'disk_full' ? 'sync_quota' : known.code === 'read_only' ? 'sync_config' : undefined
  if (code) return new AgentError(code, known.message, { cause: error })
  return known.code === 'io_error' ? new AgentError('sync_failed', known.message, { cause: error }) : known
}
