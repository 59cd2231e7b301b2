import { readFile } from 'node:fs/promises'
import type { ListenerRow } from '../../shared/contract/audit-record.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'

/** The variable that a shim gives its process, and every child of it inherits. */
const JOB_MARKER = /(?:^|\0)AGENTD_JOB=/

/**
 * What others on the network can reach. A process of the manifest on a public address is an error, for it has no login
 * of its own; anything else a warning, but sshd, whose business it is, and the agent, which asks for a token.
 */
export const checkListeners = async (listeners: readonly ListenerRow[]): Promise<readonly Problem[]> => {
  const problems: Problem[] = []
  for (const listener of listeners) {
    const { protocol, address, port, pid, program } = listener
    if (!listener.public || protocol !== 'tcp' || program === 'sshd' || pid === process.pid) continue
    const isOurs = pid !== null && JOB_MARKER.test(await readEnvironment(pid))
    const who = program === null ? 'a program that cannot be seen' : `${program} (pid ${pid})`
    problems.push(
      problemFrom(
        new AgentError('public_listener', `${who} listens on ${endpoint(address, port)}, for everybody`),
        `port ${port}`,
        isOurs ? 'error' : 'warning',
      ),
    )
  }
  return problems
}

const endpoint = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

const readEnvironment = (pid: number): Promise<string> =>
  readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
