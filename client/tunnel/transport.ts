import { AgentError } from '../../shared/contract/errors.ts'
import { targetText } from '../context/target.ts'
import { errnoOf } from '../exit.ts'
import type { Reply, Transport, TransportRequest } from '../transport.ts'
import { createUnixTransport } from '../transport.ts'
import { dial, isMasterAlive } from './dial.ts'
import type { SshContext } from './ssh.ts'

/**
 * Through ssh: the request goes to this machine's end of the box's socket. Where nothing listens there (no command has
 * opened the connection yet, or it died), it is dialled, once a request. What was sent already is sent again only when
 * that does no harm.
 */
export const createTunnelTransport = (context: Omit<SshContext, 'signal'>): Transport => {
  const { places, target } = context
  const send = createUnixTransport(places.socket)
  const label = targetText(target)

  const explain = async (error: unknown, { signal }: TransportRequest): Promise<unknown> => {
    signal.throwIfAborted()
    if (!isBroken(error) || !(await isMasterAlive({ ...context, signal }))) return error
    return new AgentError(
      'unreachable',
      `ssh reaches ${label}, but no agent answers on ${target.socket} there`,
      {
        cause: error,
        hint: 'Start agentd on the box; if it runs, its sshd must have AllowStreamLocalForwarding yes.',
      },
    )
  }

  return async (request): Promise<Reply> => {
    const { signal } = request
    try {
      return await send(request)
    } catch (error) {
      const isLost =
        isBroken(error) && isRepeatable(request) && !(await isMasterAlive({ ...context, signal }))
      if (!isUnopened(error) && !isLost) throw await explain(error, request)
    }
    await dial({ ...context, signal })
    try {
      return await send(request)
    } catch (error) {
      throw await explain(error, request)
    }
  }
}

/** Nothing listens at this end: no byte of the request has left. */
const isUnopened = (error: unknown): boolean => ['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error) ?? '')

/** The connection ended before the answer began. */
const isBroken = (error: unknown): boolean => ['ECONNRESET', 'EPIPE'].includes(errnoOf(error) ?? '')

/**
 * Asking twice changes nothing, nor does setting twice; a run that goes on is joined, a process that runs stays as it
 * is. Everything else (a token, a restart) would happen twice.
 */
const isRepeatable = ({ method, path }: TransportRequest): boolean =>
  method === 'GET' || method === 'PUT' || /^\/v1\/(plan|runs|sync|processes\/[^/]+\/(start|stop))$/.test(path)
