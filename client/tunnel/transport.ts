import { AgentError } from '../../shared/contract/errors.ts'
import { targetText } from '../context/target.ts'
import { errnoOf } from '../exit.ts'
import type { Reply, Transport, TransportRequest } from '../transport.ts'
import { createTlsTransport } from '../tls/transport.ts'
import { createUnixTransport } from '../transport.ts'
import { dial, isMasterAlive } from './dial.ts'
import { isBroken, isRepeatable } from './repeat.ts'
import type { SshContext } from './ssh.ts'

/**
 * Through ssh: the request goes to this machine's end of the box's socket. Where nothing listens there (no command has
 * opened the connection yet, or it died), it is dialled, once a request. What was sent already is sent again only when
 * that does no harm.
 */
export const createTunnelTransport = (context: Omit<SshContext, 'signal'>): Transport => {
  const { places, target } = context
  const label = targetText(target)
  const send = target.tls
    ? createTlsTransport({ at: { path: places.socket }, pin: target.tls.pin, label })
    : createUnixTransport(places.socket)

  const explain = async (error: unknown, { signal }: TransportRequest): Promise<unknown> => {
    signal.throwIfAborted()
    if (!isBroken(error) || !(await isMasterAlive({ ...context, signal }))) return error
    return new AgentError(
      'unreachable',
      `ssh reaches ${label}, but no agent answers on ${target.tls ? `port ${target.tls.port}` : target.socket} there`,
      { cause: error, hint: target.tls ? PORT_HINT : SOCKET_HINT },
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

const SOCKET_HINT =
  'Start agentd on the box; if it runs, its sshd forwards no sockets (AllowStreamLocalForwarding no): pair again, or set AGENTCTL_SSH=bridge.'
const PORT_HINT =
  'Start agentd on the box with the --listen that it was paired with; its sshd must have AllowTcpForwarding yes.'

/** Nothing listens at this end: no byte of the request has left. */
const isUnopened = (error: unknown): boolean => ['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error) ?? '')
