import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import type { Log } from '../platform/log.ts'
import { programFile } from '../platform/program-file.ts'
import type { ReadGpuLoad } from './kinds/watch-stall.ts'
import type { ManagedProcess } from './managed-process.ts'
import { createManagedProcess } from './managed-process.ts'
import type { ProcessRecord } from './process-record.ts'
import { createProcessStore } from './process-store.ts'

export type ProcessesDeps = {
  /** The jobs' folders are made under `<stateFolder>/jobs`. */
  readonly stateFolder: string
  /** The shims' sockets lie here; its path must be short. */
  readonly runFolder: string
  readonly db: Database
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  /** From 0 to 1, for the jitter of restarts. */
  readonly random: () => number
  /** Takes secrets out of what problems quote of a process's output. */
  readonly redact?: (text: string) => string
  /** The shim's program; by default the one of this agent. */
  readonly shimFile?: string
  /** How busy the GPUs are, for stall_after; where it is not given only silence counts. */
  readonly readGpuLoad?: ReadGpuLoad
}

const SHIM = programFile(import.meta.dirname, 'shim/main.ts', 'shim.cjs')

/** Every process that the agent knows, by its name, and the work that goes on for them by itself. */
export const createProcessTable = (deps: ProcessesDeps) => {
  const jobsFolder = join(deps.stateFolder, 'jobs')
  const store = createProcessStore(deps.db)
  const lifetime = new AbortController()
  const going = new Set<Promise<void>>()
  const table = new Map<string, ManagedProcess>()

  const track = (work: Promise<void>): void => {
    const settled = work
      .catch((error: unknown) => {
        const expected =
          lifetime.signal.aborted || (error instanceof AgentError && error.code === 'cancelled')
        if (!expected) deps.log.error('the supervision of a process failed', { error: String(error) })
      })
      .finally(() => going.delete(settled))
    going.add(settled)
  }

  const enter = (record: ProcessRecord): ManagedProcess => {
    const { shimFile = SHIM, redact = (text: string): string => text, readGpuLoad = noGpus } = deps
    const managed = createManagedProcess(record, {
      ...deps,
      ...{ redact, shimFile, readGpuLoad, store, track },
      folder: join(jobsFolder, record.name),
      lifetime: lifetime.signal,
    })
    table.set(record.name, managed)
    return managed
  }
  for (const record of store.all()) enter(record)

  return {
    jobsFolder,
    /** Ends with the agent; the jobs go on. */
    lifetime: lifetime.signal,
    all: (): readonly (readonly [string, ManagedProcess])[] => [...table],
    find: (name: string): ManagedProcess | undefined => table.get(name),
    /** @throws AgentError not_found */
    get: (name: string): ManagedProcess => {
      const managed = table.get(name)
      if (managed === undefined)
        throw new AgentError('not_found', `there is no process ${name}`, { hint: 'agentctl ps lists them.' })
      return managed
    },
    enter,
    /** Stops it and forgets it, but for its output. */
    drop: async (name: string, signal: AbortSignal): Promise<void> => {
      await table.get(name)?.leave(signal)
      table.delete(name)
    },
    /** The supervision goes on from the first process; this ends it with the agent and leaves the shims alive. */
    run: async (signal: AbortSignal): Promise<void> => {
      const ended = Promise.withResolvers<undefined>()
      if (signal.aborted) ended.resolve(undefined)
      signal.addEventListener('abort', () => ended.resolve(undefined), { once: true })
      await ended.promise
      lifetime.abort(signal.reason)
      await Promise.all(going)
    },
  }
}
export type ProcessTable = ReturnType<typeof createProcessTable>

/** Without a reader nothing is known of the GPUs. */
const noGpus: ReadGpuLoad = () => Promise.resolve(null)
