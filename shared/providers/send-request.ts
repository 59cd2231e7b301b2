import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { AgentError } from '../contract/errors.ts'

/** One call of a provider's API. The key is in its headers and nowhere else. */
export type ApiRequest = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

/** Header names in lower case. */
export type ApiReply = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

/**
 * Sends one request and reads the whole answer; follows no redirect, which would carry the key elsewhere.
 * @throws AgentError provider_failed when no whole answer came; the signal's reason
 */
export type Send = (request: ApiRequest, context: { readonly signal: AbortSignal }) => Promise<ApiReply>

const TIMEOUT_MS = 30_000
/** A search answers with some hundred kilobytes. */
const MOST_BYTES = 16 * 2 ** 20

/** The Send of both programs: node's own client, one connection a call. */
export const sendRequest: Send = ({ method, url, headers, body }, { signal }) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const address = new URL(url)
    const fail = (error: Error): void => {
      if (signal.aborted) reject(signal.reason as Error)
      else reject(new AgentError('provider_failed', `${address.host}: ${error.message}`, { cause: error }))
    }
    const open = address.protocol === 'http:' ? httpRequest : httpsRequest
    const request = open(
      address,
      {
        method,
        agent: false,
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
        headers: { ...headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) },
      },
      (reply) => {
        const chunks: Buffer[] = []
        let bytes = 0
        reply.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
          bytes += chunk.byteLength
          if (bytes > MOST_BYTES) reply.destroy(new Error('the answer is too large'))
        })
        reply.once('error', fail)
        reply.once('end', () => {
          const headersRead = Object.entries(reply.headers).map(([name, value]) => [name, String(value)])
          resolve({
            status: reply.statusCode ?? 0,
            headers: Object.fromEntries(headersRead) as Record<string, string>,
            text: Buffer.concat(chunks).toString('utf8'),
          })
        })
        reply.once('close', () => {
          if (!reply.complete) fail(new Error('the connection broke'))
        })
      },
    )
    request.once('error', fail)
    request.end(body)
  })
