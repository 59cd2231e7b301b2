import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { isPin, PIN_HINT } from '../tls/pin.ts'
import type { RentedBox } from './contexts.ts'
import { findContext, readContexts, targetOf } from './contexts.ts'
import type { Target } from './target.ts'
import { parseTarget, targetText } from './target.ts'

/** The box a call is about: the way there, the token, and what chose it. */
export type Box = {
  readonly target: Target
  readonly token: string | undefined
  readonly chosenBy: '--context' | 'AGENTCTL_HOST' | 'the current context' | 'the local socket'
  /** Its name where it is a context. */
  readonly context: string | undefined
  /** What it is at its provider where it was rented. */
  readonly rental?: RentedBox | undefined
}

/**
 * Which box: --context, else AGENTCTL_HOST (with AGENTCTL_TOKEN), else the current context, else the agent of this
 * machine with its local token.
 * @throws AgentError not_found, usage, io_error
 */
export const resolveBox = async (asked: string | undefined, environment: Environment): Promise<Box> => {
  if (asked === undefined && environment['AGENTCTL_HOST']) {
    const known = await boxAt(parseTarget(environment['AGENTCTL_HOST']), environment)
    const target = withPin(known.target, environment)
    const token = environment['AGENTCTL_TOKEN'] || known.token
    return { target, token, chosenBy: 'AGENTCTL_HOST', context: undefined }
  }
  const stored = await readContexts(environment)
  const name = asked ?? stored.current ?? undefined
  if (name !== undefined) {
    const found = findContext(stored, name)
    const chosenBy = asked === undefined ? 'the current context' : '--context'
    const { token, rental } = found
    return { target: targetOf(found), token, chosenBy, context: name, rental }
  }
  const { socket, tokenFile } = localAgent(environment)
  const token = environment['AGENTCTL_TOKEN'] || (await readLocalToken(tokenFile))
  return { target: { kind: 'unix', path: socket }, token, chosenBy: 'the local socket', context: undefined }
}

/** What is known of an address: the local token beside a socket, or the token and pin of a box that was paired. */
const boxAt = async (
  target: Target,
  environment: Environment,
): Promise<{ target: Target; token: string | undefined }> => {
  if (target.kind === 'unix') return { target, token: await readLocalToken(localTokenBeside(target.path)) }
  const { contexts } = await readContexts(environment)
  const found = Object.values(contexts).find((one) => one.target === targetText(target))
  return found === undefined ? { target, token: undefined } : { target: targetOf(found), token: found.token }
}

/** AGENTCTL_PIN is for an address that was not paired. @throws AgentError usage */
const withPin = (target: Target, environment: Environment): Target => {
  const pin = environment['AGENTCTL_PIN']
  if (target.kind !== 'https' || !pin) return target
  if (!isPin(pin)) throw new AgentError('usage', 'AGENTCTL_PIN is not sha256//BASE64', { hint: PIN_HINT })
  return { ...target, pin }
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
