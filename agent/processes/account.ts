import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { AgentError } from '../../shared/contract/errors.ts'

export type Account = {
  /** null: the agent's own account, nothing to change. */
  readonly user: { readonly uid: number; readonly gid: number } | null
  readonly environment: Readonly<Record<string, string>>
}

/**
 * The account that a process runs under.
 * @param name a user of the box; undefined for the agent's own
 * @throws AgentError spawn_failed when there is no such user, or the agent may not become it
 */
export const findAccount = (name: string | undefined): Account => {
  const own = process.getuid?.() ?? 0
  const entry = readAccounts().find((one) => (name === undefined ? one.uid === own : one.name === name))
  if (name === undefined) return { user: null, environment: { HOME: homedir(), ...userNames(entry?.name) } }
  if (entry === undefined)
    throw new AgentError('spawn_failed', `there is no user ${name} on this box`, {
      hint: `Create it with useradd ${name}, or take user out.`,
    })
  const environment = { HOME: entry.home, ...userNames(entry.name) }
  if (entry.uid === own) return { user: null, environment }
  if (own !== 0)
    throw new AgentError(
      'spawn_failed',
      `only root may run a process as ${name}, and agentd does not run as root`,
    )
  return { user: { uid: entry.uid, gid: entry.gid }, environment }
}

const userNames = (name: string | undefined): Readonly<Record<string, string>> =>
  name === undefined ? {} : { USER: name, LOGNAME: name }

const readAccounts = () =>
  readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid, , home = '/']) => ({ name, uid: Number(uid), gid: Number(gid), home }))
