import { randomBytes } from 'node:crypto'
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { AgentError } from '../../shared/contract/errors.ts'
import { processStart } from '../../shared/process-start.ts'
import { errnoOf, fileError } from '../platform/files.ts'

type Holder = { readonly pid: number; readonly started: string }

/**
 * Takes the lock of one overlay; pip has none. Returns what gives it back. A lock whose holder is gone is taken over.
 * @throws AgentError busy, naming the process that holds it
 */
export const takeInstallLock = (path: string): (() => void) => {
  const mine: Holder = { pid: process.pid, started: processStart(process.pid) ?? '' }
  const own = `${path}.${randomBytes(6).toString('hex')}`
  try {
    writeFileSync(own, JSON.stringify(mine), { flag: 'wx', mode: 0o600 })
    // A link appears whole or not at all: nobody reads a lock without its holder.
    if (!linked(own, path)) {
      const holder = readHolder(path)
      if (holder !== undefined && processStart(holder.pid) === holder.started)
        throw new AgentError('busy', `another install is under way in ${path} (process ${holder.pid})`, {
          hint: 'Wait for it to end.',
        })
      rmSync(path, { force: true })
      if (!linked(own, path)) throw new AgentError('busy', `another install just began in ${path}`)
    }
  } catch (error) {
    throw fileError(error, `cannot lock ${path}`)
  } finally {
    rmSync(own, { force: true })
  }
  return () => rmSync(path, { force: true })
}

const linked = (from: string, to: string): boolean => {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw error
  }
}

const readHolder = (path: string): Holder | undefined => {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    // Given back in between, or damaged by a full disk: nobody holds it.
    return undefined
  }
}
