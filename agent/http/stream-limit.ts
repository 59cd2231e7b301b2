import type { Socket } from 'node:net'
import type { HonoRequest, MiddlewareHandler } from 'hono'
import { AgentError } from '../../shared/contract/errors.ts'
import type { GateEnv } from './gate.ts'

/** Streams that never end by themselves, all clients together. */
const MOST_STREAMS = 32

/** Lets only so many connections be open at once that follow events or a log, or that were upgraded. */
export const limitStreams = (): MiddlewareHandler<GateEnv> => {
  const open = new Set<Socket>()
  return async (c, next) => {
    const isStream =
      c.env.upgrade !== undefined ||
      (c.req.path === '/v1/events' && wantsEventStream(c.req)) ||
      c.req.query('follow') === 'true'
    const { socket } = c.env.incoming
    if (isStream && !open.has(socket) && !socket.destroyed) {
      if (open.size >= MOST_STREAMS)
        throw new AgentError('too_many_streams', `${MOST_STREAMS} streams and terminals are open already`)
      open.add(socket)
      socket.once('close', () => open.delete(socket))
    }
    await next()
  }
}

/** Who names no type (curl, a plain client) gets the stream of events; a page of them has to be asked for. */
export const wantsEventStream = (request: HonoRequest): boolean =>
  request.header('accept')?.includes('application/json') !== true
