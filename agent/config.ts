import { isAbsolute, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { AgentError } from '../shared/contract/errors.ts'
import type { Scope } from '../shared/contract/states.ts'
import { SCOPES } from '../shared/contract/states.ts'
import { type DownloadLimits, readDownloadLimits } from './downloads/download-limits.ts'

/** Everything that is decided before the program begins: flags and environment, read once. */
export type AgentConfig = {
  /** The folder given by --home; null for the system's places. */
  readonly home: string | null
  readonly stateFolder: string
  readonly runFolder: string
  /** Unix socket paths. */
  readonly sockets: readonly string[]
  /** Ports that speak TLS; none unless asked for. */
  readonly tls: readonly TlsAddress[]
  /** A file or an https address to apply at boot; null for the last one. */
  readonly manifest: string | null
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly searchPath: string
  readonly downloadLimits: Partial<DownloadLimits>
}

export type TlsAddress = { readonly host: string; readonly port: number }

export type Invocation =
  | { readonly command: 'serve'; readonly config: AgentConfig }
  | { readonly command: 'pair'; readonly config: AgentConfig; readonly scope: Scope; readonly name: string }
  | { readonly command: 'bridge'; readonly socket: string }
  | { readonly command: 'version' }
  | { readonly command: 'help' }

/** Longest path of a unix socket on Linux (sun_path is 108 bytes with its NUL). */
const MAX_SOCKET_PATH_BYTES = 107
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export const USAGE = `usage: agentd [--home DIR] [--listen unix:PATH or tls://HOST:PORT]… [--manifest FILE or URL]
              [--download-limit 200MB/s] [--download-connections N]
       agentd pair --json [--scope read|operate|admin] [--name NAME]
       agentd bridge [--home DIR or --socket PATH]
       agentd --version

Each flag has an environment variable: AGENT_HOME, AGENT_LISTEN (comma-separated), AGENT_MANIFEST,
AGENT_DOWNLOAD_LIMIT, AGENT_DOWNLOAD_CONNECTIONS.
bridge joins standard input and output with the socket of the agent that runs, for an ssh that forwards no sockets.
With --listen tls://0.0.0.0:PORT the API is also served on a port, over TLS 1.3; docs/connect.md says how to pair with it.
Without --home the state is in /var/lib/gpu-agent and the sockets in /run/gpu-agent.`

/**
 * Flags and environment → what to do.
 * @throws AgentError usage, not_supported, home_unusable
 */
export const readConfig = (
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Invocation => {
  const { values, positionals } = parse(argv)
  if (values.version) return { command: 'version' }
  if (values.help) return { command: 'help' }
  const config = configFrom(values, environment)
  const [command, ...rest] = positionals
  if (command === undefined) return { command: 'serve', config }
  if (command === 'bridge' && rest.length === 0)
    return { command: 'bridge', socket: socketFrom(values.socket, config) }
  if (command !== 'pair' || rest.length > 0)
    throw new AgentError('usage', `agentd does not know “${positionals.join(' ')}”`, {
      hint: 'Run agentd --help.',
    })
  const scope = SCOPES.find((one) => one === (values.scope ?? 'admin'))
  if (scope === undefined)
    throw new AgentError('usage', `the scope “${values.scope ?? ''}” is none of ${SCOPES.join(', ')}`)
  return { command: 'pair', config, scope, name: values.name ?? 'paired' }
}

/** The socket that is named, else the usual one. @throws AgentError usage */
const socketFrom = (named: string | undefined, { sockets }: Pick<AgentConfig, 'sockets'>): string => {
  if (named === undefined) return sockets[0] ?? ''
  if (isAbsolute(named) && Buffer.byteLength(named) <= MAX_SOCKET_PATH_BYTES) return named
  throw new AgentError(
    'usage',
    `--socket ${named} is not an absolute path of at most ${MAX_SOCKET_PATH_BYTES} bytes`,
    { hint: 'Write agentd bridge --socket /run/gpu-agent/agent.sock.' },
  )
}

type Flags = ReturnType<typeof parse>['values']

const parse = (argv: readonly string[]) => {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        home: { type: 'string' },
        listen: { type: 'string', multiple: true },
        manifest: { type: 'string' },
        'download-limit': { type: 'string' },
        'download-connections': { type: 'string' },
        scope: { type: 'string' },
        name: { type: 'string' },
        socket: { type: 'string' },
        json: { type: 'boolean' },
        version: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new AgentError('usage', error instanceof Error ? error.message : String(error), {
      hint: 'Run agentd --help.',
    })
  }
}

const configFrom = (flags: Flags, environment: AgentConfig['environment']): AgentConfig => {
  const given = flags.home ?? environment['AGENT_HOME']
  const home = given === undefined || given === '' ? null : resolve(given)
  const runFolder = home === null ? '/run/gpu-agent' : join(home, 'run')
  const listen = flags.listen ?? environment['AGENT_LISTEN']?.split(',').filter(Boolean) ?? []
  const places = listen.map(parseListen)
  const sockets = [
    ...new Set([join(runFolder, 'agent.sock'), ...places.filter((place) => typeof place === 'string')]),
  ]
  for (const path of sockets)
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
      throw new AgentError(
        'home_unusable',
        `the socket path ${path} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
        {
          hint: 'Choose a shorter --home.',
        },
      )
  return {
    home,
    stateFolder: home === null ? '/var/lib/gpu-agent' : join(home, 'state'),
    runFolder,
    sockets,
    tls: places.filter((place) => typeof place !== 'string'),
    manifest: flags.manifest ?? environment['AGENT_MANIFEST'] ?? null,
    environment,
    searchPath: environment['PATH'] ?? DEFAULT_PATH,
    downloadLimits: readDownloadLimits({
      speed: flags['download-limit'] ?? environment['AGENT_DOWNLOAD_LIMIT'],
      connections: flags['download-connections'] ?? environment['AGENT_DOWNLOAD_CONNECTIONS'],
    }),
  }
}

/** A socket's path, or where to speak TLS. */
const parseListen = (text: string): string | TlsAddress => {
  if (text.startsWith('unix:/')) return text.slice('unix:'.length)
  const { ip, name, port = '' } = TLS.exec(text)?.groups ?? {}
  const host = ip ?? name
  if (host !== undefined && Number(port) >= 1 && Number(port) <= 65_535) return { host, port: Number(port) }
  throw new AgentError('usage', `--listen ${text} is neither unix:/PATH nor tls://HOST:PORT`, {
    hint: 'Write unix:/run/gpu-agent/other.sock, or tls://0.0.0.0:8443.',
  })
}

const TLS = /^tls:\/\/(?:\[(?<ip>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9][A-Za-z0-9._-]*)):(?<port>\d{1,5})$/
