import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ended } from './agent-process.ts'
import { runProgram } from './agent-process.ts'

const archive = process.env['BARE_ROOT'] ?? ''

/** Why there is no bare root to boot in; undefined when there is one. */
export const noBareRoot: string | undefined =
  archive === ''
    ? 'BARE_ROOT names no archive; scripts/ci/make-bare-root.sh makes one'
    : !existsSync(archive)
      ? `${archive} is not there`
      : process.getuid?.() !== 0
        ? 'making a container needs root'
        : spawnSync('unshare', ['--mount', '--pid', '--fork', 'true']).status === 0
          ? undefined
          : 'this machine lets nobody make namespaces'

/**
 * A machine without Node, npm or an init, in a folder: its first process is ours, as in a provider's container. It has its
 * own processes and mounts, and shares the network of this one.
 */
export type BareRoot = {
  readonly folder: string
  /** Starts its first process, with this environment alone. Resolves at once. */
  boot(argv: readonly string[], env: Readonly<Record<string, string>>): void
  /** Runs a program in it while it runs. */
  run(...argv: readonly string[]): Promise<Ended>
  /** As a provider stops a container: everything in it is killed. */
  kill(): Promise<void>
  remove(): Promise<void>
}

export const unpackBareRoot = (): BareRoot => {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-root-'))
  execFileSync('tar', ['-xf', archive, '-C', folder])
  for (const name of ['proc', 'dev', 'run', 'tmp', 'opt', 'etc/gpu-agent'])
    mkdirSync(join(folder, name), { recursive: true })
  let init: ChildProcess | undefined
  const kill = async (): Promise<void> => {
    if (init === undefined || init.exitCode !== null || init.signalCode !== null) return
    const ended = new Promise((resolve) => init?.once('exit', resolve))
    // The first process of the namespace takes every other one with it.
    process.kill(firstProcess(init), 'SIGKILL')
    await ended
  }
  return {
    folder,
    boot: (argv, env) => {
      const script =
        'mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
      init = spawn(
        'unshare',
        ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', script, folder, ...argv],
        { env: { PATH: CONTAINER_PATH, HOME: '/root', ...env }, cwd: '/', stdio: 'ignore' },
      )
    },
    run: (...argv) => {
      if (init === undefined) throw new Error('the bare root was not booted')
      return runProgram(
        [
          ...['nsenter', '--target', String(firstProcess(init)), '--mount', '--pid', '--root', '--wd'],
          ...['env', '-i', `PATH=${CONTAINER_PATH}`, 'HOME=/root', ...argv],
        ],
        { env: { PATH: process.env['PATH'] ?? '' } },
      )
    },
    kill,
    remove: async () => {
      await kill()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

const CONTAINER_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The pid, as seen from here, of the child that unshare forked into the new namespace. */
const firstProcess = (unshare: ChildProcess): number => {
  const children = readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8').trim()
  if (children === '') throw new Error('the bare root did not start, or has ended')
  return Number(children.split(' ')[0])
}
