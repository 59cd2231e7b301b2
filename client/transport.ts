import type { IncomingHttpHeaders } from 'node:http'
import { request as httpRequest } from 'node:http'
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
  /** The socket on this machine that the request went through, whatever lies behind it. */
  readonly socketPath: string
}

/** The way to an agent: sends one request, resolves when the head of the answer is there. Throws node's own errors. */
export type Transport = (request: TransportRequest) => Promise<Reply>

/** Over a unix socket with node:http alone: nothing else has to be loaded, so that a command starts fast. */
export const createUnixTransport =
  (socketPath: string): Transport =>
  ({ method, path, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath, method, path, headers, signal }, (response) => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response, socketPath })
      })
      request.on('error', reject)
      request.end(body)
    })
