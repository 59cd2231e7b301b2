import { lookup } from 'node:dns/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { LookupFunction } from 'node:net'
import { AgentError } from '../../shared/contract/errors.ts'
import { checkAddress, isNamedByUser, isPublicAddress } from '../../shared/sources/address-policy.ts'
import type { AddressPolicy } from '../../shared/sources/address-policy.ts'
import { errorText } from './files.ts'

/** Header names in lower case. */
export type PostReply = {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
}

/** Sends a JSON document to an address, and reads no more of the answer than its head. */
export type PostJson = (
  to: { readonly url: string; readonly body: unknown },
  context: { readonly signal: AbortSignal },
) => Promise<PostReply>

const TIMEOUT_MS = 10_000

/**
 * One POST, one connection, no redirect followed. Messages name the host alone: such an address is a secret as a whole.
 * @throws AgentError forbidden_address, source_unavailable; the signal's reason
 */
export const createPostJson =
  (policy: AddressPolicy): PostJson =>
  ({ url, body }, { signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const address = new URL(url)
      checkAddress(address, policy)
      const text = Buffer.from(JSON.stringify(body))
      const over = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)])
      const open = address.protocol === 'https:' ? httpsRequest : httpRequest
      const request = open(
        address,
        {
          method: 'POST',
          agent: false,
          signal: over,
          lookup: checkedLookup(address, policy),
          headers: {
            'content-type': 'application/json; charset=utf-8',
            'content-length': text.byteLength,
            'user-agent': 'gpu-agent',
          },
        },
        (reply) => {
          resolve({ status: reply.statusCode ?? 0, headers: reply.headers })
          reply.destroy()
        },
      )
      request.once('error', (error) => {
        if (signal.aborted) reject(signal.reason as Error)
        else if (error instanceof AgentError) reject(error)
        else {
          const why = over.aborted ? `it does not answer within ${TIMEOUT_MS / 1000} s` : errorText(error)
          reject(new AgentError('source_unavailable', `${address.host}: ${why}`, { cause: error }))
        }
      })
      request.end(text)
    })

/** The addresses that are connected to are those that were checked, so a name cannot be pointed elsewhere in between. */
const checkedLookup =
  (url: URL, policy: AddressPolicy): LookupFunction =>
  (host, options, callback) => {
    lookup(host, { all: true }).then(
      (found) => {
        if (!isNamedByUser(url, policy) && found.some(({ address }) => !isPublicAddress(address)))
          callback(new AgentError('forbidden_address', `${host} leads to a private address`), '')
        else if (options.all) callback(null, found)
        else callback(null, found[0]?.address ?? '', found[0]?.family)
      },
      (error: unknown) => callback(error as Error, ''),
    )
  }
