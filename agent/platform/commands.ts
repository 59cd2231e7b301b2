import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { createInterface } from 'node:readline'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from './files.ts'

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
  /** The account it runs under, otherwise the agent's own; only root may choose. */
  readonly user?: { readonly uid: number; readonly gid: number }
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
  const child = startChild(program, args, options)

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
  let killTimer: NodeJS.Timeout | undefined
  const stop = (): void => {
    signalGroup(child.pid, 'SIGTERM')
    killTimer ??= setTimeout(() => {
      signalGroup(child.pid, 'SIGKILL')
      // A descendant that left the group may hold the pipes open for as long as it likes.
      child.stdout?.destroy()
      child.stderr?.destroy()
    }, KILL_AFTER_MS)
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
    // While one of the group lives, its id stays theirs; once none does, the id may soon be somebody else's.
    if (!signalGroup(child.pid, 0)) clearTimeout(killTimer)
  }
}

const startChild = (program: string, args: readonly string[], options: CommandOptions) => {
  try {
    return spawn(program, args, {
      cwd: options.cwd,
      env: options.env,
      ...options.user,
      detached: true,
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
  } catch (error) {
    // Node refuses some arguments (a NUL character) before it tries.
    throw new AgentError('spawn_failed', `cannot start ${program}: ${errorText(error)}`, { cause: error })
  }
}

/** Signals every process of the child's group; false when the group is gone. */
const signalGroup = (pid: number | undefined, signal: NodeJS.Signals | 0): boolean => {
  if (pid === undefined) return false
  try {
    return process.kill(-pid, signal)
  } catch {
    // The group is gone already, which is what was wanted.
    return false
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

/**
 * The absolute path of a program, by PATH alone; undefined when there is none. Relative entries of PATH and names with
 * a slash are left out: what they mean depends on the current folder.
 */
export const findProgram = (name: string, searchPath: string): string | undefined => {
  const folders = searchPath.split(delimiter).filter((folder) => isAbsolute(folder))
  const candidates = isAbsolute(name)
    ? [name]
    : name.includes('/')
      ? []
      : folders.map((folder) => join(folder, name))
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return statSync(candidate).isFile()
    } catch {
      return false
    }
  })
}
