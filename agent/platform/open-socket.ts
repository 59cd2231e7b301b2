import { lookup } from 'node:dns/promises'
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { AgentError } from '../../shared/contract/errors.ts'
import {
  type AddressPolicy,
  checkAddress,
  isNamedByUser,
  isPublicAddress,
} from '../../shared/sources/address-policy.ts'
import { errorText } from './files.ts'

export type SocketOptions = {
  readonly policy: AddressPolicy
  /** How long one address may take, TLS included. */
  readonly connectMs: number
  /** Which of a name's addresses to try first: the edges of a content network differ in speed. */
  readonly turn: number
  readonly onread: OnReadOpts
  readonly signal: AbortSignal
  /** How names are looked up; as the system does by default. */
  readonly lookUp?: (host: string) => Promise<readonly { readonly address: string }[]>
}

/** What one address may take while another is left. */
const NEXT_ADDRESS_MS = 3_000

/**
 * Connects to the host of a URL, over TLS where it says https, at the first of its addresses that answers. The address
 * that is checked is the one that is connected to, so a name cannot be pointed elsewhere in between.
 * @throws AgentError forbidden_address, source_unavailable; the signal's reason
 */
export const openSocket = async (url: URL, options: SocketOptions): Promise<Socket> => {
  const { policy, signal } = options
  checkAddress(url, policy)
  const addresses = await addressesOf(url, options)
  const failures: string[] = []
  for (const [index, address] of addresses.entries()) {
    const isLast = index === addresses.length - 1
    const limitMs = isLast ? options.connectMs : Math.min(NEXT_ADDRESS_MS, options.connectMs)
    try {
      return await connectTo(address, { ...options, url, limitMs })
    } catch (error) {
      signal.throwIfAborted()
      failures.push(errorText(error))
    }
  }
  throw new AgentError(
    'source_unavailable',
    `${url.host} cannot be reached (${[...new Set(failures)].join('; ')})`,
  )
}

const bareHost = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '')

const addressesOf = async (
  url: URL,
  { policy, turn, signal, lookUp }: SocketOptions,
): Promise<readonly string[]> => {
  const host = bareHost(url)
  if (isIP(host) !== 0) return [host]
  let found: readonly { readonly address: string }[]
  try {
    found = await (lookUp ? lookUp(host) : lookup(host, { all: true }))
  } catch (error) {
    signal.throwIfAborted()
    throw new AgentError('source_unavailable', `${url.host} cannot be reached (${errorText(error)})`, {
      cause: error,
    })
  }
  signal.throwIfAborted()
  if (!isNamedByUser(url, policy) && found.some(({ address }) => !isPublicAddress(address)))
    throw new AgentError('forbidden_address', `${host} leads to a private address`)
  const first = found.length === 0 ? 0 : turn % found.length
  return [...found.slice(first), ...found.slice(0, first)].map(({ address }) => address)
}

const connectTo = (
  address: string,
  options: SocketOptions & { readonly url: URL; readonly limitMs: number },
): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const { url, signal, onread, limitMs } = options
    const isTls = url.protocol === 'https:'
    const host = bareHost(url)
    const to = { host: address, port: Number(url.port || (isTls ? 443 : 80)), onread }
    const socket = isTls
      ? connectTls({
          ...to,
          ALPNProtocols: ['http/1.1'],
          // Without a name, the certificate is checked against the address.
          ...(isIP(host) === 0 ? { servername: host } : {}),
        })
      : connectPlain(to)
    const limit = setTimeout(() => {
      socket.destroy(new Error(`${address} does not answer within ${limitMs / 1000} s`))
    }, limitMs)
    const settle = (error?: Error): void => {
      clearTimeout(limit)
      signal.removeEventListener('abort', abort)
      socket.off('error', settle).off('close', closed)
      if (error === undefined) resolve(socket)
      else {
        // An attempt that is given up may still fail in its own way.
        socket.on('error', () => undefined)
        socket.destroy()
        reject(error)
      }
    }
    const abort = (): void => settle(signal.reason as Error)
    // Without an error, as when the other side closes in the middle of the handshake.
    const closed = (): void => settle(new Error(`${address} closed the connection`))
    const ready = isTls ? 'secureConnect' : 'connect'
    socket.setNoDelay(true)
    socket.once('error', settle)
    socket.once('close', closed)
    socket.once(ready, () => settle())
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
