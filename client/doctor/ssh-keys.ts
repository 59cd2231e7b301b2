import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import type { Environment } from '../command.ts'
import { readContexts } from '../context/contexts.ts'
import { sshEnvironment } from '../tunnel/ssh.ts'
import type { Finding } from './finding.ts'

/** Keys that ssh could show to a box: an agent, or files that it does not refuse because others may read them. */
export const sshKeys = async (environment: Environment): Promise<Finding> => {
  const keys = await keysOfSsh(environment)
  // The ssh of Windows asks for rights that a mode does not show.
  const open = keys
    .filter(({ mode }) => process.platform !== 'win32' && (mode & 0o077) !== 0)
    .map(({ path }) => path)
  const hasAgent = Boolean(environment['SSH_AUTH_SOCK'])
  const detail = [...keys.map(({ path }) => path), ...(hasAgent ? ['an ssh agent'] : [])].join(', ')
  return {
    check: 'ssh keys',
    detail: detail || 'none, and no ssh agent',
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

/** The files that ssh itself would try, by its own and the user's configuration (`ssh -G`), that are there. */
const keysOfSsh = async (
  environment: Environment,
): Promise<readonly { readonly path: string; readonly mode: number }[]> => {
  const home = environment['HOME'] ?? environment['USERPROFILE'] ?? ''
  const settings = await new Promise<string>((resolve) => {
    // Without ssh there are no keys of its; that it is missing is told by the check before.
    execFile('ssh', ['-G', 'box'], { env: sshEnvironment(environment) }, (_, stdout) => resolve(stdout))
  })
  const paths = [...settings.matchAll(/^identityfile (.+)$/gm)].map(([, path = '']) =>
    path.replace(/^~(?=\/)/, home),
  )
  const found = await Promise.all(
    paths.map(async (path) => {
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
