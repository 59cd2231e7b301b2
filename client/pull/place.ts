import { lstat, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errnoOf } from '../exit.ts'

/**
 * Gives a complete folder or file its final name in one step. Another version that has the name is moved aside first
 * and kept: `NAME.previous-20261121T222309Z`. Returns where it is now, or undefined.
 */
export const place = async (from: string, to: string): Promise<string | undefined> => {
  const aside = (await exists(to)) ? await moveAside(to) : undefined
  await rename(from, to)
  await syncFolder(dirname(to))
  return aside
}

const moveAside = async (path: string): Promise<string> => {
  const stamp = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  for (let number = 1; ; number += 1) {
    const aside = `${path}.previous-${stamp}${number === 1 ? '' : `-${number}`}`
    if (await exists(aside)) continue
    await rename(path, aside)
    return aside
  }
}

/** Makes renames in this folder durable. */
export const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export const exists = async (path: string): Promise<boolean> => {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false
    throw error
  }
}

export const removeFolder = (path: string): Promise<void> => rm(path, { recursive: true, force: true })
