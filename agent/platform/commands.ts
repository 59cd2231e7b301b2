import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { createInterface } from 'node:readline'
import { AgentError } from '../../shared/contract/errors.ts'

export type CommandResult = {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  /** The last `maxOutputBytes` of each stream. */
  readonly stdout: string
  readonly stderr: string
  readonly timedOut: boolean
}

export type CommandOptions = {
  /** The whole environment of the child: nothing is inherited, so no secret of the agent leaks into it. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
  /** Text for standard input; secrets travel this way, never in argv. */
  readonly input?: string
  /** Called for each line of standard error, as it comes. */
  readonly onErrorLine?: (line: string) => void
  /** Called for each line of standard output, as it comes. */
  readonly onOutputLine?: (line: string) => void
  readonly maxOutputBytes?: number
}

const KILL_AFTER_MS = 5_000

/**
 * Runs a program to its end, from an argument array, never through a shell. The child leads its own process group;
 * an abort or the timeout ends the whole group (TERM, after 5 s KILL). A non-zero exit is a result, not an error.
 * @throws AgentError spawn_failed when the program cannot be started; the signal's reason after an abort
 */
export const runCommand = async (
  argv: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> => {
  options.signal?.throwIfAborted()
  const [program, ...args] = argv
  if (program === undefined) throw new AgentError('spawn_failed', 'an empty command cannot be started')
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env,
    detached: true,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })

  const stdout = keepTail(options.maxOutputBytes ?? 4 * 2 ** 20)
  const stderr = keepTail(options.maxOutputBytes ?? 2 ** 20)
  child.stdout?.on('data', stdout.push)
  child.stderr?.on('data', stderr.push)
  if (options.onErrorLine && child.stderr)
    createInterface({ input: child.stderr }).on('line', options.onErrorLine)
  if (options.onOutputLine && child.stdout)
    createInterface({ input: child.stdout }).on('line', options.onOutputLine)
  if (options.input !== undefined) {
    // A child that ends without reading its input is no failure of ours.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input)
  }

  let timedOut = false
  const stop = (): void => {
    killGroup(child.pid, 'SIGTERM')
    setTimeout(() => killGroup(child.pid, 'SIGKILL'), KILL_AFTER_MS).unref()
  }
  const timer = options.timeoutMs
    ? setTimeout(() => {
        timedOut = true
        stop()
      }, options.timeoutMs)
    : undefined
  options.signal?.addEventListener('abort', stop, { once: true })

  try {
    const ended = await new Promise<Pick<CommandResult, 'exitCode' | 'signal'>>((resolve, reject) => {
      child.once('error', (error) =>
        reject(new AgentError('spawn_failed', `cannot start ${program}: ${error.message}`, { cause: error })),
      )
      child.once('close', (exitCode, signal) => resolve({ exitCode, signal }))
    })
    options.signal?.throwIfAborted()
    return { ...ended, stdout: stdout.text(), stderr: stderr.text(), timedOut }
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', stop)
  }
}

const killGroup = (pid: number | undefined, signal: NodeJS.Signals): void => {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // The group is gone already, which is what was wanted.
  }
}

const keepTail = (maxBytes: number) => {
  let chunks: Buffer[] = []
  let bytes = 0
  return {
    push: (chunk: Buffer): void => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > 2 * maxBytes) {
        chunks = [Buffer.concat(chunks).subarray(-maxBytes)]
        bytes = maxBytes
      }
    },
    text: (): string => Buffer.concat(chunks).subarray(-maxBytes).toString('utf8'),
  }
}

/** The absolute path of a program, found once and by PATH alone; undefined when there is none. */
export const findProgram = (name: string, searchPath: string): string | undefined => {
  const candidates = isAbsolute(name)
    ? [name]
    : searchPath
        .split(delimiter)
        .filter(Boolean)
        .map((dir) => join(dir, name))
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return statSync(candidate).isFile()
    } catch {
      return false
    }
  })
}
