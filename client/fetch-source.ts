import { lookup } from 'node:dns'
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { LookupFunction } from 'node:net'
import { AgentError } from '../shared/contract/errors.ts'
import type { AddressPolicy } from '../shared/sources/address-policy.ts'
import { checkAddress, isNamedByUser, isPublicAddress } from '../shared/sources/address-policy.ts'
import type { Fetcher, FetchReply } from '../shared/sources/fetcher.ts'

/** How long a connection may be silent. */
const SILENCE_MS = 15_000

/**
 * The Fetcher of this machine: node's own client with kept connections, and the address policy of the agent. A manifest
 * that somebody else wrote does not make a laptop ask its own network.
 */
export const createFetcher = (
  policy: AddressPolicy,
): { readonly fetch: Fetcher; readonly close: () => void } => {
  const agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
  const fetch: Fetcher = ({ url, headers, body }, { signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const address = new URL(url)
      checkAddress(address, policy)
      const isPlain = address.protocol === 'http:'
      const fail = (error: Error): void => {
        if (signal.aborted) reject(signal.reason as Error)
        else reject(error instanceof AgentError ? error : unavailable(address, error))
      }
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
      const request = (isPlain ? httpRequest : httpsRequest)(
        address,
        {
          method: body === undefined ? 'GET' : 'POST',
          agent: isPlain ? agents.http : agents.https,
          headers: { ...headers, ...length },
          lookup: guardedLookup(address, policy),
          timeout: SILENCE_MS,
          signal,
        },
        (reply) => resolve(toReply(reply, address)),
      )
      request.once('timeout', () => request.destroy(new Error(`no answer within ${SILENCE_MS / 1000} s`)))
      request.once('error', fail)
      request.end(body)
    })
  return {
    fetch,
    close: () => {
      agents.http.destroy()
      agents.https.destroy()
    },
  }
}

/** Looks a name up as the system does, and refuses one that leads to a private address. */
const guardedLookup =
  (url: URL, policy: AddressPolicy): LookupFunction =>
  (host, options, callback) => {
    lookup(host, { ...options, all: true }, (error, found) => {
      // With an error there is no list, whatever the types say.
      if (error) {
        callback(error, '')
        return
      }
      const isAllowed = isNamedByUser(url, policy) || found.every(({ address }) => isPublicAddress(address))
      const [first] = found
      if (!isAllowed) callback(new AgentError('forbidden_address', `${host} leads to a private address`), '')
      else if (first === undefined) callback(new Error(`${host} has no address`), '')
      else if (options.all === true) callback(null, found)
      else callback(null, first.address, first.family)
    })
  }

const toReply = (reply: IncomingMessage, url: URL): FetchReply => {
  const pieces = reply[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>
  const read = async (): Promise<Uint8Array | undefined> => {
    try {
      return (await pieces.next()).value
    } catch (error) {
      throw unavailable(url, error)
    }
  }
  return {
    status: reply.statusCode ?? 0,
    headers: Object.fromEntries(
      Object.entries(reply.headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]),
    ),
    read,
    discard: () => {
      // A short rest is read so that the connection can be used again; a file is cut off.
      if (Number(reply.headers['content-length'] ?? Infinity) <= SHORT_BYTES) reply.resume()
      else reply.destroy()
    },
    body: bodyOf(read),
  }
}

const SHORT_BYTES = 64 * 2 ** 10

async function* bodyOf(read: FetchReply['read']): AsyncGenerator<Uint8Array> {
  for (;;) {
    const piece = await read()
    if (piece === undefined) return
    yield piece
  }
}

const unavailable = (url: URL, error: unknown): AgentError =>
  new AgentError(
    'source_unavailable',
    `${url.host}: ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  )
