import type { Dirent } from 'node:fs'
import { lstat, readdir, rm, statfs } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Checkpoint } from './checkpoint.ts'
import { syncFolder } from './place.ts'

/** Room beside the files themselves, for the file system's own needs. */
const SPARE_SHARE = 0.05

/**
 * Refuses a pull that does not fit, before a byte is fetched. What an earlier attempt has written counts as there.
 * @throws AgentError disk_too_small
 */
export const checkSpace = async (checkpoint: Checkpoint, staging: string): Promise<void> => {
  const written = await Promise.all(
    (await filesIn(staging)).map(async (path) => (await lstat(path)).blocks * 512),
  )
  const missing = checkpoint.sizeBytes - written.reduce((sum, bytes) => sum + bytes, 0)
  const needed = Math.ceil(Math.max(0, missing) * (1 + SPARE_SHARE))
  const folder = dirname(staging)
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (needed > free)
    throw new AgentError(
      'disk_too_small',
      `${checkpoint.name} needs ${formatSize(needed)}, ${folder} has ${formatSize(free)} free`,
      { hint: 'Free some space, or choose another disk with --to.' },
    )
}

/** Removes what an attempt at another version left, so that the folder holds the checkpoint and nothing else. */
export const removeForeign = async (checkpoint: Checkpoint, staging: string): Promise<void> => {
  const wanted = new Set(checkpoint.files.map(({ path }) => path))
  for (const path of await filesIn(staging)) if (!wanted.has(relative(staging, path))) await rm(path)
}

/** Makes every name in the staging folder durable. */
export const syncFolders = async (checkpoint: Checkpoint, staging: string): Promise<void> => {
  const folders = new Set([staging, ...checkpoint.files.map(({ path }) => dirname(join(staging, path)))])
  for (const folder of folders) await syncFolder(folder)
}

const filesIn = async (folder: string): Promise<string[]> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((): Dirent[] => [])
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
}
