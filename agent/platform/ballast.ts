import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { freeBytes } from './files.ts'

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
export const layBallast = async (folder: string): Promise<void> => {
  const path = ballastFile(folder)
  if (existsSync(path) || (await freeBytes(folder)) < PLENTY_BYTES) return
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
export const openWithoutBallast = async <T>(folder: string, open: () => T): Promise<T> => {
  try {
    return open()
  } catch (error) {
    if ((await freeBytes(folder)) > NONE_BYTES) throw error
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
