import { lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { Agent, buildConnector, errors } from 'undici'
import { AgentError } from '../../shared/contract/errors.ts'
import {
  type AddressPolicy,
  checkAddress,
  isNamedByUser,
  isPublicAddress,
} from '../../shared/sources/address-policy.ts'
import type { Fetcher, FetchReply } from '../../shared/sources/fetcher.ts'
import { errorText } from './files.ts'

export type HttpClient = {
  readonly fetch: Fetcher
  /** Ends every connection at once. */
  close(): Promise<void>
}

export type HttpClientOptions = AddressPolicy & {
  /** How long a connection may be silent, and take to be made; shorter only in tests. */
  readonly timeouts?: { readonly bodyMs?: number; readonly headersMs?: number; readonly connectMs?: number }
}

/**
 * HTTP/1.1 with one request at a time on a connection: with HTTP/2 all ranges of a file would share one connection and
 * its window. A silent connection counts as broken after 30 s, so that its range is asked for again elsewhere.
 */
export const createHttpClient = (options: HttpClientOptions): HttpClient => {
  const connectMs = options.timeouts?.connectMs ?? 10_000
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    bodyTimeout: options.timeouts?.bodyMs ?? 30_000,
    headersTimeout: options.timeouts?.headersMs ?? 30_000,
    maxHeaderSize: 64 * 2 ** 10,
    connect: guardedConnector(options, connectMs),
  })

  const fetch: Fetcher = async (request, { signal }) => {
    signal.throwIfAborted()
    const url = new URL(request.url)
    checkAddress(url, options)
    try {
      const reply = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: 'GET',
        headers: request.headers,
        signal,
      })
      return {
        status: reply.statusCode,
        headers: joinHeaders(reply.headers),
        body: reply.body,
        discard: () => {
          // Destroying a body in mid-flight reports an error that nobody waits for any more.
          reply.body.on('error', () => undefined)
          reply.body.destroy()
        },
      } satisfies FetchReply
    } catch (error) {
      signal.throwIfAborted()
      throw connectionError(error, url)
    }
  }
  return { fetch, close: () => agent.destroy() }
}

/**
 * Connects only where the policy allows: the address that is checked is the one that is connected to. Addresses
 * written as numbers never reach the lookup, so the URL is checked first (see checkAddress).
 */
const guardedConnector = (policy: AddressPolicy, timeout: number): buildConnector.connector => {
  const open = buildConnector({ allowH2: false, timeout, autoSelectFamily: true })
  const guarded = buildConnector({ allowH2: false, timeout, autoSelectFamily: true, lookup: lookUpPublic })
  return (target, callback) => {
    const url = new URL(`${target.protocol}//${target.host ?? target.hostname}`)
    try {
      checkAddress(url, policy)
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)), null)
      return
    }
    const connect = isNamedByUser(url, policy) ? open : guarded
    connect(target, callback)
  }
}

const lookUpPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) { callback(error, '', 0); return; }
    const hidden = addresses.find(({ address }) => !isPublicAddress(address))
    const [first] = addresses
    if (hidden || !first) {
      const refusal = new AgentError('forbidden_address', `${hostname} leads to a private address`)
      callback(refusal, '', 0); return;
    }
    if (options.all) callback(null, addresses)
    else callback(null, first.address, first.family)
  })
}

const joinHeaders = (
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string> => {
  const joined: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) joined[name.toLowerCase()] = Array.isArray(value) ? value.join(', ') : value
  return joined
}

const connectionError = (error: unknown, url: URL): AgentError => {
  if (error instanceof AgentError) return error
  if (error instanceof Error && error.cause instanceof AgentError) return error.cause
  const what =
    error instanceof errors.HeadersTimeoutError || error instanceof errors.ConnectTimeoutError
      ? 'does not answer'
      : `cannot be reached (${causeText(error)})`
  return new AgentError('source_unavailable', `${url.host} ${what}`, { cause: error })
}

/** With several addresses node reports an AggregateError without a message of its own. */
const causeText = (error: unknown): string =>
  error instanceof AggregateError && error.message === ''
    ? error.errors.map(errorText).join('; ')
    : errorText(error)
