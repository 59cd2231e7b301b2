import { readFile, readlink, rename, stat, symlink } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { basename, dirname, join, relative } from 'node:path'
import { makeFolders } from '../../shared/make-folders.ts'
import type { Snapshot, SnapshotFile } from '../../shared/sources/plan-snapshot.ts'
import { atomicWrite, fileError, joinInside, refuseSymlinks } from '../platform/files.ts'
import type { PlannedFile } from './planned-file.ts'

/* Hugging Face's cache: blobs by their hash, a folder of links for each commit, and the commit of each branch. */

export type PlannedSnapshot = {
  readonly snapshot: Snapshot
  /** HF_HOME; the cache lies in `hub` under it. */
  readonly hfHome: string
  readonly optional: boolean
  readonly allowPickle: boolean
}

/** The blobs of a snapshot as files to fetch; two names of one content are one blob. */
export const blobFiles = (planned: PlannedSnapshot): readonly PlannedFile[] => {
  const { snapshot } = planned
  const blobs = new Map<string, PlannedFile>()
  for (const file of snapshot.files) {
    const path = blobPath(planned, file)
    blobs.set(path, {
      to: `${snapshot.to}/${file.path}`,
      path,
      root: hubFolder(planned),
      from: [file.source],
      sha256: file.sha256,
      sizeBytes: file.sizeBytes,
      optional: planned.optional,
      // The name of a blob says nothing; the names in the repository are looked at before.
      allowPickle: true,
      contentName: basename(file.path),
    })
  }
  return [...blobs.values()]
}

/**
 * Links the files of a complete snapshot to their blobs, then notes the commit as what its revision is now.
 * @throws AgentError unsafe_path, io_error, disk_full, read_only
 */
export const linkSnapshot = async (planned: PlannedSnapshot): Promise<void> => {
  const { snapshot } = planned
  try {
    for (const file of snapshot.files) await linkFile(planned, file)
    if (snapshot.revision !== snapshot.commit) {
      const path = joinInside(join(repoFolder(planned), 'refs'), snapshot.revision)
      await refuseSymlinks(hubFolder(planned), path)
      if ((await readFile(path, 'utf8').catch(() => '')) !== snapshot.commit)
        atomicWrite(path, snapshot.commit)
    }
  } catch (error) {
    throw fileError(error, `cannot link the files of ${snapshot.to}`)
  }
}

/** True when all links are there. */
export const isLinked = async (planned: PlannedSnapshot): Promise<boolean> => {
  for (const file of planned.snapshot.files) {
    const path = linkPath(planned, file)
    if ((await readlink(path).catch(() => undefined)) !== linkTarget(planned, file)) return false
  }
  return true
}

/** The lock that Hugging Face's own tools hold while they write a blob. */
export const lockPath = (path: string): string => {
  const repo = dirname(dirname(path))
  return join(dirname(repo), '.locks', basename(repo), `${basename(path)}.lock`)
}

/**
 * True while another program of this machine holds the lock of a blob: the kernel lists locks by device and inode.
 */
export const isLocked = async (path: string): Promise<boolean> => {
  const stats = await stat(lockPath(path)).catch(() => undefined)
  if (stats === undefined) return false
  const locks = await readFile('/proc/locks', 'utf8').catch(() => '')
  return locks.split('\n').some((line) => line.split(/\s+/).some((word) => word.endsWith(`:${stats.ino}`)))
}

const hubFolder = ({ hfHome }: PlannedSnapshot): string => join(hfHome, 'hub')

const repoFolder = (planned: PlannedSnapshot): string =>
  joinInside(
    hubFolder(planned),
    `${planned.snapshot.repoType}s--${planned.snapshot.repo.replaceAll('/', '--')}`,
  )

const blobPath = (planned: PlannedSnapshot, file: SnapshotFile): string =>
  joinInside(join(repoFolder(planned), 'blobs'), file.sha256 ?? file.gitSha1 ?? '')

const linkPath = (planned: PlannedSnapshot, file: SnapshotFile): string =>
  joinInside(join(repoFolder(planned), 'snapshots', planned.snapshot.commit), file.path)

const linkTarget = (planned: PlannedSnapshot, file: SnapshotFile): string =>
  relative(dirname(linkPath(planned, file)), blobPath(planned, file))

const linkFile = async (planned: PlannedSnapshot, file: SnapshotFile): Promise<void> => {
  const path = linkPath(planned, file)
  const target = linkTarget(planned, file)
  await refuseSymlinks(hubFolder(planned), dirname(path))
  if ((await readlink(path).catch(() => undefined)) === target) return
  await makeFolders(dirname(path))
  // Whatever lies there is replaced in one step: readers see the old or the new.
  const temporary = `${path}.${randomBytes(4).toString('hex')}`
  await symlink(target, temporary)
  await rename(temporary, path)
}
