import { BlockList, isIP } from 'node:net'
import { AgentError } from '../contract/errors.ts'
import { DEFAULT_ENDPOINTS, type Endpoints } from './endpoints.ts'

export type AddressPolicy = {
  readonly endpoints: Endpoints
  /** `host` or `host:port`, in lower case. */
  readonly allowHosts: readonly string[]
}

/**
 * True when a person has named this place: a moved endpoint, or a host of AGENT_ALLOW_HOSTS. Such a place may be
 * plain http and private.
 */
export const isNamedByUser = (url: URL, policy: AddressPolicy): boolean => {
  const moved = (['hf', 'civitai'] as const).some(
    (kind) =>
      policy.endpoints[kind] !== DEFAULT_ENDPOINTS[kind] &&
      url.origin === new URL(policy.endpoints[kind]).origin,
  )
  const port = url.port || (url.protocol === 'http:' ? '80' : '443')
  const host = bareHost(url.hostname)
  return (
    moved ||
    [host, `${host}:${port}`, url.hostname, `${url.hostname}:${port}`].some((name) =>
      policy.allowHosts.includes(name),
    )
  )
}

/**
 * Refuses a URL by what is written in it: plain http, a private, loopback or metadata address. Names are checked
 * again when they are looked up (see the http client).
 * @throws AgentError forbidden_address
 */
export const checkAddress = (url: URL, policy: AddressPolicy): void => {
  if (isNamedByUser(url, policy)) return
  const host = bareHost(url.hostname)
  if (url.protocol !== 'https:')
    throw new AgentError('forbidden_address', `${url.origin} is plain ${url.protocol.replace(':', '')}`)
  if (isIP(host) !== 0 && !isPublicAddress(host))
    throw new AgentError('forbidden_address', `${url.origin} is a private address`)
  if (/(^|\.)(localhost|internal|local)\.?$/.test(host))
    throw new AgentError('forbidden_address', `${url.origin} is a local name`)
}

/** False for every address that is not on the public internet: loopback, private, link-local, metadata, multicast. */
export const isPublicAddress = (address: string): boolean => {
  const family = isIP(address)
  if (family === 0) return false
  return !notPublic.check(address, family === 4 ? 'ipv4' : 'ipv6')
}

const bareHost = (hostname: string): string => hostname.replace(/^\[|\]$/g, '').toLowerCase()

/** IANA's special-purpose registries. A BlockList also finds IPv4 addresses that are written as `::ffff:a.b.c.d`. */
const SPECIAL: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[] = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.0.2.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['198.51.100.0', 24, 'ipv4'],
  ['203.0.113.0', 24, 'ipv4'],
  ['224.0.0.0', 3, 'ipv4'],
  ['::', 96, 'ipv6'],
  ['64:ff9b::', 96, 'ipv6'],
  ['64:ff9b:1::', 48, 'ipv6'],
  ['100::', 64, 'ipv6'],
  ['2001::', 23, 'ipv6'],
  ['2001:db8::', 32, 'ipv6'],
  ['2002::', 16, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['fec0::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
]

const notPublic = new BlockList()
for (const [network, prefix, family] of SPECIAL) notPublic.addSubnet(network, prefix, family)
