import { isIPv6 } from 'node:net'
import { isAbsolute } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

export type UnixTarget = { readonly kind: 'unix'; readonly path: string }

/** A box reached through ssh. `host` may be an alias of the user's own ssh configuration; without `user` and `port` that decides. */
export type SshTarget = {
  readonly kind: 'ssh'
  readonly user: string | undefined
  readonly host: string
  readonly port: number | undefined
  /** The agent's socket on the box. */
  readonly socket: string
  /** Where the box's sshd forwards no sockets: the agent's TLS port there, on loopback. */
  readonly tls?: { readonly port: number; readonly pin: string } | undefined
  /** Where the box's sshd forwards nothing: each connection is an ssh of its own, with `agentd bridge` at its end. */
  readonly isBridged?: boolean | undefined
  /** Where agentd lies on the box, for the bridge; undefined for what the PATH of the login finds. */
  readonly agentd?: string | undefined
}

/** A box reached at a port of its own; without a pin it cannot be told from an impostor. */
export type HttpsTarget = {
  readonly kind: 'https'
  readonly host: string
  readonly port: number
  readonly pin: string | undefined
}

/** A way to a box, as AGENTCTL_HOST and `pair` spell it. */
export type Target = UnixTarget | SshTarget | HttpsTarget

/** Where agentd listens when it is not told otherwise. */
export const USUAL_SOCKET = '/run/gpu-agent/agent.sock'

const SPELLINGS =
  'Write [user@]host[:port], ssh://user@host:port, https://host:port or unix:/path/agent.sock.'

/** @throws AgentError usage */
export const parseTarget = (text: string): Target => {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!isAbsolute(path))
      throw new AgentError('usage', `${text}: the path of a socket must be absolute`, {
        hint: 'Write unix:/path/agent.sock.',
      })
    return { kind: 'unix', path }
  }
  const target = text.startsWith('https://') ? parseHttps(text) : parseSsh(text)
  if (target === undefined)
    throw new AgentError('usage', `${text} is not the address of a box`, { hint: SPELLINGS })
  return target
}

export const targetText = (target: Target): string => {
  if (target.kind === 'unix') return `unix:${target.path}`
  if (target.kind === 'https') return `https://${bracketed(target.host)}:${target.port}`
  const user = target.user === undefined ? '' : `${target.user}@`
  const port = target.port === undefined ? '' : `:${target.port}`
  return `ssh://${user}${bracketed(target.host)}${port}${target.socket === USUAL_SOCKET ? '' : target.socket}`
}

const bracketed = (host: string): string => (isIPv6(host) ? `[${host}]` : host)

/** A path that may be named to ssh and to the shell of the box: nothing in it means anything to either. */
export const isPlainPath = (path: string): boolean => /^\/[A-Za-z0-9._/+-]{1,106}$/.test(path)

/** Where agentd lies on a box, as its shell is told: a name on its PATH, or a plain absolute path. */
export const isPlainProgram = (text: string): boolean =>
  /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text) || isPlainPath(text)

/** User and host begin with a letter or digit, so that neither can be read as an option of ssh. */
const SSH =
  /^(?:(?<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?(?:\[(?<ip>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9][A-Za-z0-9._-]*))(?::(?<port>\d{1,5}))?(?<socket>\/.*)?$/

const parseSsh = (text: string): SshTarget | undefined => {
  const isAddress = text.startsWith('ssh://')
  const found = SSH.exec(isAddress ? text.slice('ssh://'.length) : text)?.groups
  const host = found?.['ip'] ?? found?.['name']
  if (found === undefined || host === undefined) return undefined
  if (found['ip'] !== undefined && !isIPv6(found['ip'])) return undefined
  const port = found['port'] === undefined ? undefined : Number(found['port'])
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined
  const path = found['socket'] === '/' ? undefined : found['socket']
  if (path !== undefined && !(isAddress && isPlainPath(path))) return undefined
  return { kind: 'ssh', user: found['user'], host, port, socket: path ?? USUAL_SOCKET }
}

const HTTPS =
  /^https:\/\/(?:\[(?<ip>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9][A-Za-z0-9._-]*))(?::(?<port>\d{1,5}))?\/?$/

const parseHttps = (text: string): HttpsTarget | undefined => {
  const { ip, name, port = '443' } = HTTPS.exec(text)?.groups ?? {}
  const host = ip ?? name
  if (host === undefined || (ip !== undefined && !isIPv6(ip))) return undefined
  if (Number(port) < 1 || Number(port) > 65_535) return undefined
  return { kind: 'https', host, port: Number(port), pin: undefined }
}
