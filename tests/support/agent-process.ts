import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { COMPILE_CACHE } from './compile-cache.ts'
import { AGENTCTL, AGENTD } from './programs.ts'

const root = join(import.meta.dirname, '..', '..')

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

/** Runs a program to its end and collects what it printed. */
export const runProgram = (
  argv: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string>>
    readonly cwd?: string
    readonly input?: string
  } = {},
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const [program = '', ...args] = argv
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...COMPILE_CACHE, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })

/** A real agentd in a home of its own, and the real agentctl to talk to it. */
export type AgentProcess = {
  readonly home: string
  readonly child: ChildProcess
  /** What the agent wrote to standard error so far. */
  log(): string
  agentctl(
    args: readonly string[],
    options?: { readonly input?: string; readonly cwd?: string },
  ): Promise<Ended>
  /** Ends the agent with a signal and waits until it is gone; its processes go on. */
  kill(signal: NodeJS.Signals): Promise<void>
}

/** A short folder: socket paths have 107 bytes at most. */
export const makeHome = (): string => mkdtempSync(join(tmpdir(), 'ga-'))

/** Starts agentd and waits until it answers. */
export const startAgent = async (options: {
  readonly home: string
  readonly env?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
}): Promise<AgentProcess> => {
  const env = { PATH: process.env['PATH'] ?? '', HOME: options.home, ...COMPILE_CACHE, ...options.env }
  const child = spawn(process.execPath, [AGENTD, '--home', options.home, ...(options.args ?? [])], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const agentctl: AgentProcess['agentctl'] = (args, run = {}) =>
    runProgram([process.execPath, AGENTCTL, ...args], {
      env: { ...env, AGENT_HOME: options.home },
      ...run,
    })
  const agent: AgentProcess = {
    home: options.home,
    child,
    log: () => log,
    agentctl,
    kill: async (signal) => {
      child.kill(signal)
      await exited
    },
  }
  for (let tries = 0; tries < 300; tries += 1) {
    if (child.exitCode !== null || child.signalCode !== null) break
    // The socket of an agent that was killed lies there still.
    const isThere = existsSync(join(options.home, 'state/local-token'))
    if (isThere && (await accepts(join(options.home, 'run/agent.sock')))) return agent
    await delay(50)
  }
  throw new Error(`agentd did not start (exit ${child.exitCode}):\n${log}`)
}

const accepts = (socketPath: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(socketPath)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })

/** Ends every process that runs under a shim of this home, then removes the home. */
export const removeHome = async (home: string): Promise<void> => {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (Number(pid) !== process.pid && commandLine.includes(home)) {
      try {
        process.kill(Number(pid), 'SIGKILL')
      } catch {
        // It ended by itself meanwhile.
      }
    }
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
}

/** The text of a file under the repository. */
export const repositoryFile = (path: string): string => readFileSync(join(root, path), 'utf8')
