import { closeSync, constants, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { lstat, mkdir, open, readdir, rm, statfs } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join } from 'node:path'
import type { ErrorCode } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { makeFolders } from '../../shared/make-folders.ts'

const TEMPORARY = /^\.(.+)\.[0-9a-f]{12}\.tmp$/

/** Twelve digits. A name that is taken is refused, so nobody gains by guessing it; node:crypto would cost each shim 3 MB. */
const randomHex = (): string =>
  Math.floor(Math.random() * 2 ** 48)
    .toString(16)
    .padStart(12, '0')

/**
 * Replaces a small file so that a reader sees the old text or the new one, never a part: temporary file beside it,
 * fsync, rename, fsync of the folder. A crash leaves at most a temporary file (see sweepTemporaryFiles).
 * @throws AgentError disk_full, read_only, io_error
 */
export const atomicWrite = (
  path: string,
  data: string | Uint8Array,
  options: { mode?: number } = {},
): void => {
  const temporary = join(dirname(path), `.${basename(path)}.${randomHex()}.tmp`)
  try {
    mkdirSync(dirname(path), { recursive: true })
    const file = openSync(
      temporary,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
      options.mode ?? 0o644,
    )
    try {
      writeAllSync(file, typeof data === 'string' ? Buffer.from(data) : data)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
    syncFolder(dirname(path))
  } catch (error) {
    rmSync(temporary, { force: true })
    throw fileError(error, `cannot write ${path}`)
  }
}

/** fs.writeSync may write less than asked without an error (a nearly full disk does that). */
export const writeAllSync = (file: number, data: Uint8Array): void => {
  let offset = 0
  while (offset < data.byteLength) offset += writeSync(file, data, offset)
}

/** Makes a rename in this folder durable. */
export const syncFolder = (folder: string): void => {
  const handle = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** Removes what a crashed atomicWrite left in this folder. */
export const sweepTemporaryFiles = async (folder: string): Promise<void> => {
  const names = await readdir(folder).catch(() => [] as string[])
  await Promise.all(
    names.filter((name) => TEMPORARY.test(name)).map((name) => rm(join(folder, name), { force: true })),
  )
}

/** Free bytes for an ordinary user on the file system that holds `path`, which need not exist yet. */
export const freeBytes = async (path: string): Promise<number> => {
  const stats = await statfs(await nearestExisting(path))
  return stats.bavail * stats.bsize
}

/** The device a path lies on, or will lie on once it is made. Two paths with one device share their free space. */
export const deviceOf = async (path: string): Promise<number> =>
  (await lstat(await nearestExisting(path))).dev

const nearestExisting = async (path: string): Promise<string> => {
  let current = path
  for (;;) {
    const found = await lstat(current).then(
      () => true,
      () => false,
    )
    if (found || dirname(current) === current) return current
    current = dirname(current)
  }
}

/**
 * Joins a relative path from outside (a manifest, a hub, a client) under `root`.
 * Refuses absolute paths, `..`, empty parts, backslashes, control characters and parts over 255 bytes.
 * Lexical only: whoever opens the result for writing also calls `refuseSymlinks`.
 * @throws AgentError unsafe_path
 */
export const joinInside = (root: string, relative: string): string => {
  const parts = relative.split('/')
  const bad = parts.find(
    (part) =>
      part === '' ||
      part === '.' ||
      part === '..' ||
      // eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
      /[\u0000-\u001f\u007f\\]/.test(part) ||
      /^[a-z]:/i.test(part) ||
      Buffer.byteLength(part) > 255,
  )
  if (isAbsolute(relative) || bad !== undefined)
    throw new AgentError('unsafe_path', `the path ${JSON.stringify(relative)} does not stay inside ${root}`)
  return join(root, ...parts)
}

/**
 * Refuses a path under `root` one of whose existing parts is a symbolic link: it could lead out. `root` itself may be
 * one. What is checked can change until it is opened, so a writer also opens with O_NOFOLLOW or O_EXCL.
 * @throws AgentError unsafe_path; io_error where a part cannot be looked at
 */
export const refuseSymlinks = async (root: string, path: string): Promise<void> => {
  const base = root.endsWith('/') ? root : `${root}/`
  if (path !== root && !path.startsWith(base))
    throw new AgentError('unsafe_path', `the path ${JSON.stringify(path)} does not lie in ${root}`)
  let current = root
  for (const part of path.slice(base.length).split('/').filter(Boolean)) {
    current = join(current, part)
    try {
      if ((await lstat(current)).isSymbolicLink())
        throw new AgentError('unsafe_path', `${current} is a symbolic link`)
    } catch (error) {
      // What is not there yet leads nowhere; a file in the middle fails when it is opened.
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return
      throw fileError(error, `cannot look at ${current}`)
    }
  }
}

/**
 * Opens a file under `root` part by part, each from the folder before it, and makes the folders that are not there: what
 * `refuseSymlinks` saw may have been swapped for a link since, and no link on the way is followed. `root` may be one.
 * @throws AgentError unsafe_path; node's own errors otherwise
 */
export const openInside = async (
  { root, path }: { readonly root: string; readonly path: string },
  { flags, mode }: { readonly flags: number; readonly mode: number },
): Promise<FileHandle> => {
  const base = root.endsWith('/') ? root : `${root}/`
  const parts = path.startsWith(base) ? path.slice(base.length).split('/') : []
  const name = parts.pop()
  if (name === undefined)
    throw new AgentError('unsafe_path', `the path ${JSON.stringify(path)} does not lie in ${root}`)
  await makeFolders(root)
  let folder = await open(root, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    for (const part of parts) {
      const next = await openFolder(inFolder(folder, part))
      await folder.close()
      folder = next
    }
    return await open(inFolder(folder, name), flags | constants.O_NOFOLLOW, mode)
  } catch (error) {
    if (errnoOf(error) !== 'ELOOP') throw error
    throw new AgentError('unsafe_path', `${path} is a symbolic link`, { cause: error })
  } finally {
    await folder.close()
  }
}

/** A name in a folder that is open, whatever the folder's own path has become: openat(2), which node has not. */
const inFolder = ({ fd }: FileHandle, name: string): string => `/proc/self/fd/${fd}/${name}`

const openFolder = async (path: string): Promise<FileHandle> => {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
  try {
    return await open(path, flags)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    await mkdir(path).catch((made: unknown) => {
      // Another download has just made it.
      if (errnoOf(made) !== 'EEXIST') throw made
    })
    return await open(path, flags)
  }
}

/** Makes a folder of the agent's own, readable by its user alone. */
export const makePrivateFolder = async (path: string): Promise<void> => {
  try {
    await makeFolders(path, { mode: 0o700 })
    const probe = join(path, `.probe.${randomHex()}.tmp`)
    await (await open(probe, 'wx', 0o600)).close()
    await rm(probe)
  } catch (error) {
    throw new AgentError('home_unusable', `cannot write in ${path}: ${errorText(error)}`, { cause: error })
  }
}

const FILE_ERRORS: Readonly<Partial<Record<string, ErrorCode>>> = {
  ENOSPC: 'disk_full',
  EDQUOT: 'disk_full',
  EROFS: 'read_only',
  EISDIR: 'destination_invalid',
  ENOTDIR: 'destination_invalid',
  ENAMETOOLONG: 'destination_invalid',
}

/** A file-system error as an AgentError; anything else passes through unchanged. */
export const fileError = (error: unknown, what: string): unknown => {
  const code = errnoOf(error)
  if (code === undefined || error instanceof AgentError) return error
  return new AgentError(FILE_ERRORS[code] ?? 'io_error', `${what}: ${errorText(error)}`, {
    cause: error,
  })
}

/** `ENOENT` and the like, where the error has one. */
export const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error &&
  'code' in error &&
  typeof error.code === 'string' &&
  /^E[A-Z0-9]+$/.test(error.code)
    ? error.code
    : undefined

export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error))
