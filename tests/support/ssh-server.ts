import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findProgram } from '../../agent/platform/commands.ts'

/** sshd starts itself again for each connection, so it wants its absolute path. */
const SSHD = '/usr/sbin/sshd'

/** Why there is no ssh server to test with; undefined when there is one. */
export const noSshServer: string | undefined = existsSync(SSHD)
  ? ['ssh', 'ssh-keygen']
      .filter((name) => findProgram(name, process.env['PATH'] ?? '') === undefined)
      .map((name) => `${name} is not installed`)[0]
  : `${SSHD} is not installed`

/** A real OpenSSH server on a loopback port, for the user that runs the tests. */
export type SshServer = {
  /** `user@127.0.0.1:port`. */
  readonly target: string
  readonly folder: string
  /** A PATH whose ssh has the key of this server's user, and a runtime and config folder of its own. */
  readonly env: Readonly<Record<string, string>>
  /** Ids of the ssh masters that are open now. */
  masters(): number[]
  /** A new host key, as a box that was made anew has. */
  changeHostKey(): Promise<void>
  /** Logins with a key are refused, or taken again. */
  allowKeys(are: 'taken' | 'refused'): void
  close(): Promise<void>
}

export const startSshServer = async (
  options: {
    readonly env?: Readonly<Record<string, string>>
    /** Further lines of sshd_config. */
    readonly config?: readonly string[]
  } = {},
): Promise<SshServer> => {
  const folder = mkdtempSync(join(tmpdir(), 'gs-'))
  for (const name of ['bin', 'run', 'config']) mkdirSync(join(folder, name), { mode: 0o700 })
  // Privilege separation wants this folder where sshd starts as root.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
  const makeKey = (name: string): void => {
    rmSync(join(folder, name), { force: true })
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  }
  makeKey('host_key')
  makeKey('user_key')
  const port = await freePort()
  const allowKeys: SshServer['allowKeys'] = (are) =>
    writeFileSync(join(folder, 'authorized_keys'), are === 'taken' ? publicKey(folder) : '', { mode: 0o600 })
  allowKeys('taken')
  const setEnv = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
  writeFileSync(
    join(folder, 'sshd_config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${folder}/host_key`,
      `AuthorizedKeysFile ${folder}/authorized_keys`,
      'PidFile none',
      'UsePAM no',
      'StrictModes no',
      'PasswordAuthentication no',
      'PrintMotd no',
      'Subsystem sftp internal-sftp',
      ...(setEnv.length === 0 ? [] : [`SetEnv ${setEnv.join(' ')}`]),
      ...(options.config ?? []),
    ].join('\n'),
  )
  // The forward is as people have them in their configuration, and its port is taken, as by a terminal that is open.
  writeFileSync(
    join(folder, 'ssh_config'),
    `IdentityFile ${folder}/user_key\nIdentitiesOnly yes\nLocalForward 127.0.0.1:${port} 127.0.0.1:9\n`,
  )
  const ssh = execFileSync('/bin/sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim()
  writeFileSync(join(folder, 'bin/ssh'), `#!/bin/sh\nexec ${ssh} -F ${folder}/ssh_config "$@"\n`)
  chmodSync(join(folder, 'bin/ssh'), 0o755)

  const start = async (): Promise<() => Promise<void>> => {
    const child = spawn(SSHD, ['-D', '-e', '-f', join(folder, 'sshd_config')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let log = ''
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    while (!(await accepts(port))) {
      if (child.exitCode !== null) throw new Error(`sshd did not start:\n${log}`)
      await delay(20)
    }
    return async () => {
      child.kill('SIGTERM')
      await exited
    }
  }
  let stop = await start()
  const masters = (): number[] => processesWith(`${folder}/run/gpu-agent`)
  const killMasters = (): void => {
    for (const pid of masters()) process.kill(pid, 'SIGKILL')
  }
  return {
    target: `${userInfo().username}@127.0.0.1:${port}`,
    folder,
    env: {
      PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
      HOME: folder,
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_RUNTIME_DIR: join(folder, 'run'),
    },
    masters,
    changeHostKey: async () => {
      await stop()
      killMasters()
      makeKey('host_key')
      stop = await start()
    },
    allowKeys,
    close: async () => {
      killMasters()
      await stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

const publicKey = (folder: string): string =>
  execFileSync('ssh-keygen', ['-y', '-f', join(folder, 'user_key')], { encoding: 'utf8' })

const processesWith = (text: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && commandLine(name).includes(text))
    .map(Number)

const commandLine = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It ended meanwhile.
    return ''
  }
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
