import { closeSync, constants, fchownSync, openSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import type * as NodePty from 'node-pty'
import { createReadAhead } from './read-ahead.ts'
import type { ShimSpec } from './records.ts'

/** The job's process and, where there is one, its terminal. */
export type Terminal = {
  readonly pid: number
  readonly kind: 'pty' | 'none'
  /** Why there is no terminal. */
  readonly problem: string | null
  write(bytes: Buffer): void
  resize(columns: number, rows: number): void
}

export type TerminalEvents = {
  /** The bytes are only lent: the next output overwrites them. */
  readonly onOutput: (bytes: Buffer) => void
  /** Called once, after the last output. */
  readonly onExit: (exitCode: number | null, signal: string | null) => void
}

type Launch = {
  readonly spec: ShimSpec
  readonly environment: Readonly<Record<string, string>>
  readonly events: TerminalEvents
}

/** Starts the job under a terminal; where node-pty cannot be loaded, with pipes into the log and no terminal. */
export const openTerminal = async (launch: Launch): Promise<Terminal> => {
  try {
    return openPty(await import('node-pty'), launch)
  } catch (error) {
    return await openPipes(launch, error instanceof Error ? error.message : String(error))
  }
}

/**
 * An older libuv takes “partial read plus hang-up” for the end, which loses up to 4 KB of the last output: exactly where
 * the traceback of a crash is (two of three runs on Node 20, none on Node 24). So this process keeps a descriptor of its
 * own on the slave side until the exit is reported: then there is no hang-up before everything is read.
 */
const openPty = (pty: typeof NodePty, { spec, environment, events }: Launch): Terminal => {
  const [program = '', ...args] = spec.input === 'none' ? withoutInput(spec.argv) : spec.argv
  const terminal = pty.spawn(program, args, {
    name: environment['TERM'] ?? 'xterm-256color',
    cols: 120,
    rows: 40,
    cwd: spec.cwd,
    env: { ...environment },
    encoding: null,
    ...spec.user,
  })
  const slave = holdSlave(terminal, spec.user)
  const take = createReadAhead(masterOf(terminal), events.onOutput)
  // Without an encoding these are buffers, whatever the types of node-pty say.
  terminal.onData((data: string | Buffer) => take(Buffer.isBuffer(data) ? data : Buffer.from(data)))
  terminal.onExit(({ exitCode, signal }) => {
    if (slave !== undefined) closeSync(slave)
    const name = signalName(signal ?? 0)
    events.onExit(name === null ? exitCode : null, name)
  })
  return {
    pid: terminal.pid,
    kind: 'pty',
    problem: null,
    write: (bytes) => terminal.write(bytes),
    resize: (columns, rows) => terminal.resize(columns, rows),
  }
}

/** node-pty gives all three descriptors to the terminal, so a shell takes the first away before it becomes the program. */
const withoutInput = (argv: readonly string[]): readonly string[] => [
  '/bin/sh',
  '-c',
  'exec "$@" </dev/null',
  'sh',
  ...argv,
]

/** node-pty knows its descriptor but does not type it. */
const masterOf = (terminal: NodePty.IPty): number | undefined =>
  'fd' in terminal && typeof terminal.fd === 'number' ? terminal.fd : undefined

/** node-pty knows the slave's name but does not type it. Never throws: the process runs already. */
const holdSlave = (terminal: NodePty.IPty, user: ShimSpec['user']): number | undefined => {
  try {
    if (!('ptsName' in terminal) || typeof terminal.ptsName !== 'string') return undefined
    const slave = openSync(terminal.ptsName, constants.O_RDWR | constants.O_NOCTTY)
    if (user) fchownSync(slave, user.uid, user.gid)
    return slave
  } catch {
    // Without it the last output may be cut off, which is better than no process.
    return undefined
  }
}

const openPipes = async ({ spec, environment, events }: Launch, problem: string): Promise<Terminal> => {
  // Loaded where it is needed: memory that every shim would hold.
  const { spawn } = await import('node:child_process')
  const [program = '', ...args] = spec.argv
  const child = spawn(program, args, {
    cwd: spec.cwd,
    env: environment,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...spec.user,
  })
  child.stdout.on('data', events.onOutput)
  child.stderr.on('data', events.onOutput)
  let ended = false
  const end = (exitCode: number | null, signal: string | null): void => {
    if (ended) return
    ended = true
    events.onExit(exitCode, signal)
  }
  child.once('error', (error) => {
    events.onOutput(Buffer.from(`cannot start ${program}: ${error.message}\n`))
    end(127, null)
  })
  child.once('close', end)
  // A descendant that keeps the pipe open must not hide that the process itself has ended.
  child.once('exit', (exitCode, signal) => setTimeout(() => end(exitCode, signal), 500))
  return { pid: child.pid ?? 0, kind: 'none', problem, write: () => undefined, resize: () => undefined }
}

const signalName = (number: number): string | null =>
  Object.entries(osConstants.signals).find(([, value]) => value === number)?.[0] ?? null
