import { createHash } from 'node:crypto'
import { lstat, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import type { SshTarget } from '../context/target.ts'
import { targetText } from '../context/target.ts'
import { configFolder } from '../private-file.ts'

/** The files that belong to the connection to one box. */
export type TunnelPlaces = {
  /** Readable by this user alone: whoever can open a socket in it can talk to the box's agent. */
  readonly folder: string
  /** This machine's end of the box's socket. */
  readonly socket: string
  /** How ssh is asked about a connection that is open, and told to close it. */
  readonly control: string
  readonly lock: string
  /** The one host key this box has. */
  readonly knownHosts: string
}

/** sun_path of macOS, the shortest, without its NUL; ssh adds 17 bytes to the control path while it makes it. */
const MAX_SOCKET_BYTES = 103
const LONGEST_NAME = '/012345678901.ctl'.length + 17

/** Where the files of this box's connection lie. Makes nothing. */
export const tunnelPlaces = (
  target: SshTarget,
  environment: Environment,
  platform: NodeJS.Platform = process.platform,
): TunnelPlaces => {
  const folder = platform === 'win32' ? join(configFolder(environment), 'run') : runtimeFolder(environment)
  const knownHosts = join(configFolder(environment), 'known_hosts', hostName(target))
  const key = createHash('sha256')
    .update(`${targetText(target)}\n${knownHosts}\n${target.tls?.port ?? ''}`)
    .digest('hex')
    .slice(0, 12)
  const place = (kind: string): string => join(folder, `${key}.${kind}`)
  return { folder, socket: place('sock'), control: place('ctl'), lock: place('lock'), knownHosts }
}

/** The name of a box's host key: of the address it was reached at, in letters that no program reads as anything else. */
export const hostName = ({ host, port }: SshTarget): string =>
  `${host}${port === undefined ? '' : `_${port}`}`.replace(/[^A-Za-z0-9._-]/g, '_')

const runtimeFolder = (environment: Environment): string => {
  const given = environment['XDG_RUNTIME_DIR'] ?? ''
  const folder = join(given, 'gpu-agent')
  const isUsable =
    /^\/[A-Za-z0-9._/-]+$/.test(given) && Buffer.byteLength(folder) + LONGEST_NAME <= MAX_SOCKET_BYTES
  return isUsable ? folder : `/tmp/gpu-agent-${process.getuid?.() ?? 'user'}`
}

/**
 * Makes the folders. In /tmp somebody else may have made ours first. Windows has no mode to look at: there the rights of
 * the user's own folder keep others out.
 * @throws AgentError io_error
 */
export const makePlaces = async (
  { folder, knownHosts }: TunnelPlaces,
  platform: NodeJS.Platform = process.platform,
): Promise<void> => {
  await mkdir(join(knownHosts, '..'), { recursive: true, mode: 0o700 })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (platform === 'win32') return
  const stats = await lstat(folder)
  if (stats.isDirectory() && stats.uid === process.getuid?.() && (stats.mode & 0o077) === 0) return
  throw new AgentError('io_error', `${folder} is not a folder that this user alone can read`, {
    hint: `Remove it, or set XDG_RUNTIME_DIR to a folder of your own.`,
  })
}
