import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ended } from './agent-process.ts'
import { runProgram } from './agent-process.ts'
import { COMPILE_CACHE } from './compile-cache.ts'
import { AGENTCTL } from './programs.ts'

type Options = {
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly input?: string
}

/** Runs the real agentctl to its end. */
export const runAgentctl = (args: readonly string[], options: Options): Promise<Ended> =>
  runProgram([process.execPath, AGENTCTL, ...args], options)

/** An agentctl that runs: it can be watched and interrupted. */
export type RunningAgentctl = {
  readonly child: ChildProcess
  stdout(): string
  stderr(): string
  /** Resolves when `text` has been printed somewhere; rejects when the program ended without it. */
  printed(text: string): Promise<void>
  readonly ended: Promise<Ended>
}

export const startAgentctl = (args: readonly string[], { env, cwd }: Options): RunningAgentctl => {
  const child = spawn(process.execPath, [AGENTCTL, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], ...COMPILE_CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const text = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => (text.stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (text.stderr += chunk.toString()))
  let done = false
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code) => {
      done = true
      resolve({ code, ...text })
    })
  })
  return {
    child,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    printed: async (wanted) => {
      while (!`${text.stdout}${text.stderr}`.includes(wanted)) {
        if (done) throw new Error(`agentctl ended without “${wanted}”: ${text.stdout}${text.stderr}`)
        await delay(20)
      }
    },
    ended,
  }
}
