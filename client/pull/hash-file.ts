import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat } from 'node:fs/promises'
import type { CheckpointFile } from './checkpoint.ts'

/** True when `path` is a regular file with exactly the bytes of `file`. */
export const isThatFile = async (
  path: string,
  file: CheckpointFile,
  signal: AbortSignal,
): Promise<boolean> => {
  const stats = await lstat(path).catch(() => undefined)
  if (stats?.isFile() !== true || stats.size !== file.sizeBytes) return false
  return (await hashFile(path, signal)) === file.sha256
}

/** The sha256 of a file's bytes, in hexadecimal. */
const hashFile = async (path: string, signal: AbortSignal): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal }))
    hash.update(chunk as Buffer)
  return hash.digest('hex')
}
