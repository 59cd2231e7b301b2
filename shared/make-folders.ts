import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder and those above it. Node's own `recursive` never returns where a parent exists and yet takes no folder, as
 * in /proc, and calls a full disk ENOENT (nodejs/node#42808); here every failure is the one of the folder that failed.
 * @throws node's own errors: ENOENT, ENOSPC, EROFS, EACCES, ENOTDIR, EEXIST where a file has the name
 */
export const makeFolders = async (path: string, options: { readonly mode?: number } = {}): Promise<void> => {
  try {
    await makeFolder(path, options)
  } catch (error) {
    const parent = dirname(path)
    if (!hasCode(error, 'ENOENT') || parent === path) throw error
    await makeFolders(parent, options)
    await makeFolder(path, options)
  }
}

const makeFolder = async (path: string, options: { readonly mode?: number }): Promise<void> => {
  try {
    await mkdir(path, options)
  } catch (error) {
    if (!hasCode(error, 'EEXIST') || !(await stat(path)).isDirectory()) throw error
  }
}

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code
