import type { IncomingHttpHeaders, RequestOptions } from 'node:http'
import { Agent, request as httpRequest } from 'node:http'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import type { Readable } from 'node:stream'

/** One request to the agent, whatever the way there. `path` has its query already. */
export type TransportRequest = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal: AbortSignal
}

/** The head of an answer; `body` still flows and must be read to its end or destroyed. */
export type Reply = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Readable
  /** Opens another connection the same way, for what is no single request. */
  readonly connect: Connect
  /** Where a connection is dear (a login): has those that are free, for further requests. */
  readonly agent?: Agent
}

/** As node:http takes it: a connection is returned at once, or given to the callback when it is made. */
export type Connect = NonNullable<RequestOptions['createConnection']>

/** The way to an agent: sends one request, resolves when the head of the answer is there. Throws node's own errors. */
export type Transport = (request: TransportRequest) => Promise<Reply>

/** Over a unix socket with node:http alone: nothing else has to be loaded, so that a command starts fast. */
export const createUnixTransport = (path: string): Transport => {
  const agent = Object.assign(new Agent({ keepAlive: true }), {
    createConnection: () => connectInto(path, Buffer.allocUnsafeSlow(READ_BYTES)),
  })
  return createTransport({ agent }, () => connect(path))
}

/** What node takes as well: more is colder by the time that it is looked at. */
const READ_BYTES = 2 ** 16

/**
 * A connection that reads into one buffer again and again; node takes 64 KB of new memory for each read, and of a pull
 * of gigabytes that is a collection each 64 MB. Only for node:http, which copies what it keeps before it returns.
 */
const connectInto = (path: string, buffer: Buffer): Socket => {
  const socket: Socket = connect({
    path,
    onread: {
      buffer,
      callback: (length) => socket.emit('data', buffer.subarray(0, length)),
    },
  })
  return socket
}

/**
 * Over connections that `open` makes; `agent` keeps those that are free for the next request, with `isShared` also for
 * requests that do not come through here.
 */
export const createTransport =
  (
    { agent, isShared = false }: { readonly agent: Agent; readonly isShared?: boolean },
    open: Connect,
  ): Transport =>
  ({ method, path, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const request = httpRequest(
        { agent, method, path, headers: { host: 'agent', ...headers }, signal },
        (response) => {
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: response,
            connect: open,
            ...(isShared ? { agent } : {}),
          })
        },
      )
      request.on('error', reject)
      request.end(body)
    })
