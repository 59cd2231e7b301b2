import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Environment } from '../command.ts'
import { findContext, readContexts } from './contexts.ts'
import type { Target } from './target.ts'
import { parseTarget, targetText } from './target.ts'

/** The box a call is about: the way there, the token, and what chose it. */
export type Box = {
  readonly target: Target
  readonly token: string | undefined
  readonly chosenBy: '--context' | 'AGENTCTL_HOST' | 'the current context' | 'the local socket'
  /** Its name where it is a context. */
  readonly context: string | undefined
}

/**
 * Which box: --context, else AGENTCTL_HOST (with AGENTCTL_TOKEN), else the current context, else the agent of this
 * machine with its local token.
 * @throws AgentError not_found, usage, not_supported, io_error
 */
export const resolveBox = async (asked: string | undefined, environment: Environment): Promise<Box> => {
  if (asked === undefined && environment['AGENTCTL_HOST']) {
    const target = parseTarget(environment['AGENTCTL_HOST'])
    const token = environment['AGENTCTL_TOKEN'] || (await tokenFor(target, environment))
    return { target, token, chosenBy: 'AGENTCTL_HOST', context: undefined }
  }
  const stored = await readContexts(environment)
  const name = asked ?? stored.current ?? undefined
  if (name !== undefined) {
    const found = findContext(stored, name)
    const chosenBy = asked === undefined ? 'the current context' : '--context'
    return { target: parseTarget(found.target), token: found.token, chosenBy, context: name }
  }
  const { socket, tokenFile } = localAgent(environment)
  const token = environment['AGENTCTL_TOKEN'] || (await readLocalToken(tokenFile))
  return { target: { kind: 'unix', path: socket }, token, chosenBy: 'the local socket', context: undefined }
}

/** The token that is known for an address: the local one beside a socket, or that of a box that was paired. */
const tokenFor = async (target: Target, environment: Environment): Promise<string | undefined> => {
  if (target.kind === 'unix') return readLocalToken(localTokenBeside(target.path))
  const { contexts } = await readContexts(environment)
  return Object.values(contexts).find((one) => one.target === targetText(target))?.token
}

/** Where the agent of this machine has its socket and its local token. */
const localAgent = (environment: Environment): { socket: string; tokenFile: string } => {
  const home = environment['AGENT_HOME']
  return home
    ? { socket: join(home, 'run/agent.sock'), tokenFile: join(home, 'state/local-token') }
    : { socket: '/run/gpu-agent/agent.sock', tokenFile: '/var/lib/gpu-agent/local-token' }
}

/** The local token of the agent that has this socket: in `DIR/state` for a socket in `DIR/run`. */
const localTokenBeside = (socket: string): string =>
  basename(dirname(socket)) === 'run'
    ? join(dirname(dirname(socket)), 'state/local-token')
    : '/var/lib/gpu-agent/local-token'

/** Another user's token cannot be read: the request goes without one, and the agent's 401 says what to do. */
const readLocalToken = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').then(
    (text) => text.trim() || undefined,
    () => undefined,
  )
