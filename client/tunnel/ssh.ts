import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { sep } from 'node:path'
import type { Readable } from 'node:stream'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import type { SshTarget } from '../context/target.ts'
import { errnoOf } from '../exit.ts'
import { openErrorFile } from './error-file.ts'
import type { TunnelPlaces } from './places.ts'
import { hostName } from './places.ts'

/** One box, the files of its connection, and what a call of ssh needs. */
export type SshContext = {
  readonly target: SshTarget
  readonly places: TunnelPlaces
  readonly environment: Environment
  readonly signal: AbortSignal
}

export type SshEnd = { readonly exitCode: number | null; readonly stdout: string; readonly stderr: string }

/** An answer of the box longer than this is none of ours. */
const MAX_OUTPUT_BYTES = 2 ** 20

/**
 * Runs the system's ssh to its end. The user's own configuration, keys and agent apply; what is given here wins over it.
 * @throws AgentError unreachable where there is no ssh; the signal's reason
 */
export const runSsh = async (
  args: readonly string[],
  context: SshContext & { readonly input?: Readable },
): Promise<SshEnd> => {
  context.signal.throwIfAborted()
  const { places, input, signal } = context
  const errors = await openErrorFile(places.folder)
  try {
    const child = spawn('ssh', args, {
      env: sshEnvironment(context.environment),
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', errors.fd],
      signal,
    })
    let stdout = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      if (stdout.length < MAX_OUTPUT_BYTES) stdout += chunk.toString('utf8')
    })
    if (input !== undefined && child.stdin !== null) {
      // A command that ends without reading everything says why by its exit status.
      child.stdin.on('error', () => input.destroy())
      input.pipe(child.stdin)
    }
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      // Not “close”: a master holds its standard output too.
      child.once(args.includes('-f') ? 'exit' : 'close', resolve)
    })
    child.stdout?.destroy()
    return { exitCode, stdout, stderr: await errors.text() }
  } catch (error) {
    signal.throwIfAborted()
    throw spawnFailure(error)
  } finally {
    await errors.close()
  }
}

/** Why ssh did not even start. */
export const spawnFailure = (error: unknown): unknown =>
  errnoOf(error) === 'ENOENT'
    ? new AgentError('unreachable', 'there is no ssh on this machine', {
        cause: error,
        hint: 'Install the OpenSSH client; boxes are reached through it.',
      })
    : error

/** Runs a command on the box. Its words must mean nothing to a shell, since sshd hands them to one. */
export const runOnBox = (
  command: readonly string[],
  context: SshContext & { readonly input?: Readable },
): Promise<SshEnd> => runSsh(commandLine(command, context), context)

/** The arguments of an ssh that runs a command on the box, over a connection of its own. */
export const commandLine = (
  command: readonly string[],
  context: Pick<SshContext, 'target' | 'places'>,
): string[] => [
  ...connectionOptions(context),
  ...options({ ControlMaster: 'no', ControlPath: 'none', ClearAllForwardings: 'yes' }),
  ...destination(context.target),
  ...command,
]

/**
 * ssh's own choices with AES-GCM first: it is in every processor of today, and costs half the time that ssh's own first
 * choice takes. Spelt out, because `^` before a name came with OpenSSH 8.1.
 */
const CIPHERS = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes128-ctr',
  'aes192-ctr',
  'aes256-ctr',
]

/** Options of every connection. */
export const connectionOptions = ({ target, places }: Pick<SshContext, 'target' | 'places'>): string[] => [
  '-T',
  ...options({
    // Nobody is there to answer a question.
    BatchMode: 'yes',
    ConnectTimeout: '15',
    // A dead network is noticed within 30 s.
    ServerAliveInterval: '10',
    ServerAliveCountMax: '2',
    // The first contact tells the box's key; from then on no other is taken, of whatever kind.
    StrictHostKeyChecking: hasKey(places.knownHosts) ? 'yes' : 'accept-new',
    // ssh takes forward slashes on Windows too, where it would read some backslashes as its own.
    UserKnownHostsFile: `"${places.knownHosts.replaceAll('%', '%%').replaceAll(sep, '/')}"`,
    GlobalKnownHostsFile: '/dev/null',
    HostKeyAlias: hostName(target),
    Ciphers: CIPHERS.join(','),
    HashKnownHosts: 'no',
    CheckHostIP: 'no',
    UpdateHostKeys: 'no',
    // No banner of the box among the errors.
    LogLevel: 'ERROR',
    // What the user's own configuration may ask for and a program has no use for.
    RemoteCommand: 'none',
    PermitLocalCommand: 'no',
    ForwardAgent: 'no',
    ForwardX11: 'no',
  }),
]

/** Where to, after `--`: no host is read as an option. */
export const destination = ({ user, host, port }: SshTarget): string[] => [
  ...(user === undefined ? [] : ['-l', user]),
  ...(port === undefined ? [] : ['-p', String(port)]),
  '--',
  host,
]

export const options = (values: Readonly<Record<string, string>>): string[] =>
  Object.entries(values).flatMap(([name, value]) => ['-o', `${name}=${value}`])

const hasKey = (knownHosts: string): boolean =>
  (statSync(knownHosts, { throwIfNoEntry: false })?.size ?? 0) > 0

/** What ssh, its agent, Kerberos and a ProxyCommand need; no token of ours. */
const PASSED =
  /^(HOME|PATH|USER|LOGNAME|SHELL|LANG|LC_[A-Z]+|TERM|TZ|TMPDIR|SSH_[A-Z_]+|KRB5[A-Z0-9_]*|XDG_[A-Z_]+|[A-Za-z]+_proxy|[A-Z]+_PROXY)$/

/** What every program of Windows needs besides; names have no case there. */
const PASSED_ON_WINDOWS =
  /^(PATH|PATHEXT|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PROGRAMDATA|USERPROFILE|USERNAME|USERDOMAIN|HOMEDRIVE|HOMEPATH|APPDATA|LOCALAPPDATA|TEMP|TMP)$/i

export const sshEnvironment = (
  environment: Environment,
  platform: NodeJS.Platform = process.platform,
): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined &&
        (PASSED.test(entry[0]) || (platform === 'win32' && PASSED_ON_WINDOWS.test(entry[0]))),
    ),
  )
