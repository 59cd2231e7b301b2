import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Ended } from './agent-process.ts'
import { runProgram } from './agent-process.ts'

/**
 * A machine whose files lie in a folder: its first process is ours, as in a provider's container. It has its own processes
 * and mounts, and this machine's network or one of its own, which is a loopback and nothing else.
 */
export type Machine = {
  readonly folder: string
  /** Starts its first process, with this environment alone. Resolves at once. */
  boot(argv: readonly string[], env: Readonly<Record<string, string>>): void
  /** Runs a program in it while it runs. */
  run(...argv: readonly string[]): Promise<Ended>
  /** As `docker stop`: its first process is asked to end. Resolves with its status. */
  stop(): Promise<number | null>
  /** As a provider stops a container: everything in it is killed. */
  kill(): Promise<void>
}

export const machineIn = (folder: string, options: { readonly network: 'shared' | 'own' }): Machine => {
  for (const name of ['proc', 'dev', 'run', 'tmp', 'opt', 'etc/gpu-agent'])
    mkdirSync(join(folder, name), { recursive: true })
  const ownNetwork = options.network === 'own'
  let init: ChildProcess | undefined
  const end = (signal: NodeJS.Signals): Promise<number | null> =>
    new Promise((resolve) => {
      if (init === undefined || init.exitCode !== null || init.signalCode !== null) {
        resolve(null)
        return
      }
      init.once('exit', resolve)
      // The first process of the namespace takes every other one with it.
      process.kill(firstProcess(init), signal)
    })
  return {
    folder,
    boot: (argv, env) => {
      const script = [
        ...(ownNetwork ? ['ip link set lo up'] : []),
        'mount --make-rprivate /',
        'mount -t proc proc "$0/proc"',
        'mount --rbind /dev "$0/dev"',
        'exec chroot "$0" "$@"',
      ].join(' && ')
      const namespaces = ['--mount', '--pid', ...(ownNetwork ? ['--net'] : [])]
      init = spawn(
        'unshare',
        [...namespaces, '--fork', '--kill-child', 'sh', '-c', script, folder, ...argv],
        { env: { PATH: CONTAINER_PATH, HOME: '/root', ...env }, cwd: '/', stdio: 'ignore' },
      )
    },
    run: (...argv) => {
      if (init === undefined) throw new Error(`the machine in ${folder} was not booted`)
      const namespaces = ['--mount', '--pid', '--net', '--root', '--wd']
      return runProgram(
        [
          ...['nsenter', '--target', String(firstProcess(init)), ...namespaces],
          ...['env', '-i', `PATH=${CONTAINER_PATH}`, 'HOME=/root', ...argv],
        ],
        { env: { PATH: process.env['PATH'] ?? '' } },
      )
    },
    stop: () => end('SIGTERM'),
    kill: async () => {
      await end('SIGKILL')
    },
  }
}

const CONTAINER_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The pid, as seen from here, of the child that unshare forked into the new namespace. */
const firstProcess = (unshare: ChildProcess): number => {
  const children = readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8').trim()
  if (children === '') throw new Error('the machine did not start, or has ended')
  return Number(children.split(' ')[0])
}
