import { existsSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

/*
 * Bytes that only take room. On a full disk SQLite cannot even open its file, so an agent that was restarted there could
 * stop nothing of what fills it. The ballast is thrown off then, and laid again once there is plenty of room.
 */

const BALLAST_BYTES = 8 * 2 ** 20
const PLENTY_BYTES = 2 ** 30
/** Fewer are none: a file system keeps some for itself. */
const NONE_BYTES = 64 * 2 ** 10

const ballastFile = (folder: string): string => join(folder, 'ballast')

/** Where there is plenty of room and no ballast yet. Never throws: without it everything works but a start on a full disk. */
export const layBallast = (folder: string): void => {
  const path = ballastFile(folder)
  if (existsSync(path) || freeBytes(folder) < PLENTY_BYTES) return
  const unfinished = `${path}.${process.pid}.tmp`
  try {
    writeFileSync(unfinished, Buffer.alloc(BALLAST_BYTES, 'ballast\n'), { mode: 0o600 })
    renameSync(unfinished, path)
  } catch {
    rmSync(unfinished, { force: true })
  }
}

/**
 * What `open` returns; where it fails for want of room, it is tried once more without the ballast.
 * @throws AgentError disk_full where that does not help; whatever else `open` throws
 */
export const openWithoutBallast = <T>(folder: string, open: () => T): T => {
  try {
    return open()
  } catch (error) {
    if (freeBytes(folder) > NONE_BYTES) throw error
    const path = ballastFile(folder)
    if (existsSync(path)) {
      rmSync(path)
      return open()
    }
    throw new AgentError('disk_full', `${folder} has no room for the agent's state`, {
      cause: error,
      hint: 'Free some space there, then start agentd again; the processes go on meanwhile.',
    })
  }
}

const freeBytes = (folder: string): number => {
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize
}
