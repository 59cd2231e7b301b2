import { errnoOf } from '../exit.ts'
import type { TransportRequest } from '../transport.ts'

/** The connection ended before the answer began. */
export const isBroken = (error: unknown): boolean => ['ECONNRESET', 'EPIPE'].includes(errnoOf(error) ?? '')

/**
 * Asking twice changes nothing, nor does setting twice; a run that goes on is joined, a process that runs stays as it
 * is. Everything else (a token, a restart) would happen twice.
 */
export const isRepeatable = ({ method, path }: TransportRequest): boolean =>
  method === 'GET' || method === 'PUT' || /^\/v1\/(plan|runs|sync|processes\/[^/]+\/(start|stop))$/.test(path)
