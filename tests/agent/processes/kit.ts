import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { PlannedProcess } from '../../../agent/processes/planned-process.ts'
import { planProcess } from '../../../agent/processes/planned-process.ts'
import type { ProcessesDeps } from '../../../agent/processes/process-table.ts'
import type { Processes } from '../../../agent/processes/processes.ts'
import { createProcesses } from '../../../agent/processes/processes.ts'
import { findMarked } from '../../../agent/processes/process-tree.ts'
import { readJobSpec } from '../../../agent/processes/job-records.ts'
import { jobMarker, shimMarker } from '../../../agent/processes/shim/records.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'

export const FIXTURES = join(import.meta.dirname, '../../fixtures/bin')

/** Any test's own signal. */
export const forever = (): AbortSignal => new AbortController().signal

/** A fresh home of an agent; its processes are ended and it is removed when the test is over. */
export const makeHome = (): string => {
  const home = mkdtempSync(join(tmpdir(), 'gpua-'))
  mkdirSync(join(home, 'state'))
  mkdirSync(join(home, 'run'))
  onTestFinished(() => {
    endEverything(home)
    rmSync(home, { recursive: true, force: true })
  })
  return home
}

/** The process room of one agent, with its supervision running; `leave` ends the agent and not its jobs. */
export const startRoom = (home: string, overrides: Partial<ProcessesDeps> = {}) => {
  const events: AgentEvent[] = []
  const problems: string[] = []
  const { db } = openDatabase(join(home, 'state'))
  const end = new AbortController()
  const processes: Processes = createProcesses({
    stateFolder: join(home, 'state'),
    runFolder: join(home, 'run'),
    db,
    clock: systemClock,
    report: (event) => events.push(event),
    log: {
      info: () => undefined,
      warn: () => undefined,
      error: (message, fields) => problems.push(`${message} ${JSON.stringify(fields)}`),
    },
    random: () => 0,
    ...overrides,
  })
  const running = Promise.all(processes.services.map((service) => service.run(end.signal)))
  const leave = async (): Promise<void> => {
    if (end.signal.aborted) return
    end.abort(new Error('the agent ends'))
    await running
    db.close()
  }
  onTestFinished(leave)
  return { processes, events, problems, leave }
}

/** A plan of a `command` process, as the manifest would give it. */
export const planCommand = (
  name: string,
  command: readonly string[],
  more: Readonly<Record<string, unknown>> = {},
): PlannedProcess =>
  planProcess(name, ProcessSpec.parse({ kind: 'command', command, ...more }), {
    interpreter: null,
    binFolder: FIXTURES,
    environment: {},
  })

/** Everything a process wrote so far. */
export const readAll = async (processes: Processes, name: string): Promise<string> => {
  const chunks: Uint8Array[] = []
  for await (const { bytes } of processes.logs(name, { signal: forever() })) chunks.push(bytes)
  return Buffer.concat(chunks).toString('utf8')
}

/** Looks again until it is true; the test's own time limit ends it. */
export const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await systemClock.sleep(25)
}

export const untilState = (processes: Processes, name: string, ...states: readonly string[]): Promise<void> =>
  until(() => processes.rows().some((row) => row.name === name && states.includes(row.state)))

/** Live processes of a job, found by what they carry in their environment. */
export const livingProcesses = (home: string, name: string): readonly number[] => {
  const spec = readJobSpec(jobFolder(home, name))
  return spec ? findMarked(jobMarker(spec)).map(({ pid }) => pid) : []
}

export const jobFolder = (home: string, name: string): string => join(home, 'state', 'jobs', name)

/** The pid of a job's shim. */
export const shimPid = (home: string, name: string): number => {
  const state = JSON.parse(readFileSync(join(jobFolder(home, name), 'state.json'), 'utf8')) as {
    shimPid: number
  }
  return state.shimPid
}

export const isAlive = (pid: number): boolean => {
  try {
    // A zombie still has its number, but nothing of it runs.
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** The agent of room-program.ts, to be killed. */
export const spawnRoom = async (
  home: string,
  options: {
    readonly plan: readonly PlannedProcess[]
    readonly shimFile?: string
    readonly until: string
    /** A cgroup that it runs in, with everything it starts. */
    readonly cgroup?: string
  },
) => {
  const planFile = join(home, 'plan.json')
  writeFileSync(planFile, JSON.stringify(options.plan))
  const program = join(import.meta.dirname, 'room-program.ts')
  const room = [process.execPath, program, home, planFile]
  if (options.shimFile !== undefined) room.push(options.shimFile)
  const enter = ['sh', '-c', 'echo $$ > "$0"/cgroup.procs && exec "$@"', options.cgroup ?? '']
  const [command = '', ...args] = options.cgroup === undefined ? room : [...enter, ...room]
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await gone
  }
  onTestFinished(kill)
  let printed = ''
  child.stdout.on('data', (text: Buffer) => (printed += text.toString()))
  const lines = (): readonly Record<string, unknown>[] =>
    printed
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  await until(() => child.exitCode !== null || lines().some(({ type }) => type === options.until))
  return { kill, lines }
}

const endEverything = (home: string): void => {
  const jobs = join(home, 'state', 'jobs')
  for (const name of existsSync(jobs) ? readdirSync(jobs) : []) {
    const spec = readJobSpec(join(jobs, name))
    if (spec === undefined) continue
    for (const { pid } of [...findMarked(shimMarker(spec)), ...findMarked(jobMarker(spec))]) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended by itself.
      }
    }
  }
}
