import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AgentError } from '../shared/contract/errors.ts'
import type { Environment } from './command.ts'
import { errnoOf } from './exit.ts'

/** The client's own folder: `$XDG_CONFIG_HOME/gpu-agent`, or `~/.config/gpu-agent`. Windows has USERPROFILE for HOME. */
export const configFolder = (environment: Environment): string => {
  const base =
    environment['XDG_CONFIG_HOME'] ||
    join(environment['HOME'] ?? environment['USERPROFILE'] ?? '/', '.config')
  return join(base, 'gpu-agent')
}

/**
 * Replaces a file that its user alone may read: temporary file beside it, fsync, rename. A reader sees the old text
 * or the new one.
 */
export const writePrivateFile = async (path: string, text: string): Promise<void> => {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** The JSON of a file of ours; undefined when there is none. @throws AgentError when it cannot be read */
export const readJsonFile = async (path: string): Promise<unknown> => {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as unknown
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    const why = error instanceof Error ? error.message : String(error)
    throw new AgentError('io_error', `cannot read ${path}: ${why}`, {
      cause: error,
      hint: 'Correct the file or move it away; it is written anew.',
    })
  }
}
