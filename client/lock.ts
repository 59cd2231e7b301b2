import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError } from '../shared/contract/errors.ts'
import { makeFolders } from '../shared/make-folders.ts'
import { processStart } from '../shared/process-start.ts'
import { errnoOf } from './exit.ts'

/**
 * Takes a lock among the agentctls of this machine: one file with the process's id, made only where there is none. A
 * lock whose process is gone (it was killed) is taken over. Returns what gives it back.
 * @param taken what another holder means: `another pull works on this checkpoint here`
 * @throws AgentError busy
 */
export const takeLock = async (path: string, taken: string): Promise<() => Promise<void>> => {
  await makeFolders(dirname(path))
  for (let attempt = 0; attempt < 3; attempt += 1) {
    if (await createLock(path)) return () => rm(path, { force: true })
    const owner = await readFile(path, 'utf8').catch(() => undefined)
    if (owner === undefined) continue
    if (holds(owner)) throw busy(`${taken}: process ${owner.trim().split(' ')[0] ?? ''}`, path)
    await removeStale(path, owner)
  }
  throw busy(taken, path)
}

/** The lock appears with its text in it: one that is read empty would pass for a stale one. */
const createLock = async (path: string): Promise<boolean> => {
  const mine = `${path}.${randomBytes(6).toString('hex')}`
  const text = `${process.pid} ${processStart(process.pid) ?? ''}\n`
  try {
    await writeFile(mine, text, { flag: 'wx', mode: 0o644 })
    await link(mine, path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    if (!WITHOUT_LINKS.includes(errnoOf(error) ?? '')) throw error
    return await createWithoutLink(path, text)
  } finally {
    await rm(mine, { force: true })
  }
}

/** What file systems without hard links say (exFAT, some network drives). */
const WITHOUT_LINKS: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

const createWithoutLink = async (path: string, text: string): Promise<boolean> => {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o644 })
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw error
  }
}

/** Of two that find the same stale lock one moves it away; the other may move a fresh one, and puts it back. */
const removeStale = async (path: string, owner: string): Promise<void> => {
  const aside = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await rename(path, aside)
  } catch {
    // Another process was faster; the next look shows whose lock it is.
    return
  }
  if ((await readFile(aside, 'utf8')) !== owner) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
}

/** Ids are used again, after a boot above all: where the system tells when a process began, that has to agree too. */
const holds = (owner: string): boolean => {
  const [pid = '', start = ''] = owner.trim().split(' ')
  if (!isAlive(Number.parseInt(pid, 10))) return false
  const now = processStart(Number.parseInt(pid, 10))
  return now === undefined || start === '' || now === start
}

const isAlive = (pid: number): boolean => {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) === 'EPERM'
  }
}

const busy = (message: string, path: string): AgentError =>
  new AgentError('busy', message, { hint: `Wait for it to end; if there is none, remove ${path}.` })
