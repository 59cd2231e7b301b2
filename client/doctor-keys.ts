import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Environment } from './command.ts'
import { readContexts } from './context/contexts.ts'

/** Keys that ssh could show to a box: an agent, or files that it does not refuse because others may read them. */
export const sshKeys = async (
  environment: Environment,
): Promise<{ readonly check: string; readonly detail: string; readonly fix: string | null }> => {
  const folder = join(environment['HOME'] ?? '', '.ssh')
  const keys = await keysIn(folder)
  const open = keys.filter(({ mode }) => (mode & 0o077) !== 0).map(({ path }) => path)
  const hasAgent = Boolean(environment['SSH_AUTH_SOCK'])
  const detail = [...keys.map(({ path }) => path), ...(hasAgent ? ['an ssh agent'] : [])].join(', ')
  return {
    check: 'ssh keys',
    detail: detail || `none in ${folder}, and no ssh agent`,
    fix: await fixFor({ open, hasKey: keys.length > 0 || hasAgent, environment }),
  }
}

const fixFor = async (found: {
  readonly open: readonly string[]
  readonly hasKey: boolean
  readonly environment: Environment
}): Promise<string | null> => {
  if (found.open.length > 0) return `ssh refuses keys that others can read: chmod 600 ${found.open.join(' ')}`
  if (found.hasKey || !(await reachesBySsh(found.environment))) return null
  return 'Make a key with ssh-keygen -t ed25519, and give its public half to the provider of the box.'
}

const keysIn = async (
  folder: string,
): Promise<readonly { readonly path: string; readonly mode: number }[]> => {
  const names = await readdir(folder).catch(() => [])
  const found = await Promise.all(
    names
      .filter((name) => /^id_\w+$/.test(name))
      .map(async (name) => {
        const path = join(folder, name)
        const stats = await stat(path).catch(() => undefined)
        return stats?.isFile() === true ? [{ path, mode: stats.mode }] : []
      }),
  )
  return found.flat()
}

/** A machine that reaches no box over ssh needs no key. */
const reachesBySsh = async (environment: Environment): Promise<boolean> => {
  const contexts = await readContexts(environment).catch(() => undefined)
  return Object.values(contexts?.contexts ?? {}).some(({ target }) => target.startsWith('ssh://'))
}
