import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { WorkflowReport } from '../../shared/contract/records.ts'
import { ProcessRow } from '../../shared/contract/records.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import { sweepTemporaryFiles } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import { programFile } from '../platform/program-file.ts'
import type { ProcessOutcome } from './apply-plan.ts'
import { applyPlan } from './apply-plan.ts'
import type { Attachment } from './attach.ts'
import { attachToJob } from './attach.ts'
import { readJobSpec } from './job-records.ts'
import { reportWorkflow } from './kinds/comfyui/prove-comfyui.ts'
import type { ReadGpuLoad } from './kinds/watch-stall.ts'
import type { ManagedProcess } from './managed-process.ts'
import { createManagedProcess } from './managed-process.ts'
import type { LogChunk, LogRange } from './output-log.ts'
import { readOutput } from './output-log.ts'
import type { PlannedProcess } from './planned-process.ts'
import type { ProcessRecord } from './process-record.ts'
import { LIVE_STATES, newRecord } from './process-record.ts'
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

type Waiting = { readonly signal: AbortSignal }

const SHIM = programFile(import.meta.dirname, 'shim/main.ts', 'shim.js')

/** Everything the agent keeps running or runs once. The jobs live under shims of their own and outlive this. */
export const createProcesses = (deps: ProcessesDeps) => {
  const jobs = join(deps.stateFolder, 'jobs')
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
    const folder = join(jobs, record.name)
    const managed = createManagedProcess(record, {
      ...deps,
      redact,
      shimFile,
      readGpuLoad,
      folder,
      store,
      lifetime: lifetime.signal,
      track,
    })
    table.set(record.name, managed)
    return managed
  }
  for (const record of store.all()) enter(record)

  const get = (name: string): ManagedProcess => {
    const managed = table.get(name)
    if (managed === undefined) throw new AgentError('not_found', `there is no process ${name}`)
    return managed
  }

  return {
    /**
     * At the agent's start: every job's folder is looked at, all at once, each for two seconds at most. What lives is
     * taken back, what ended meanwhile is recorded. Folders that the table does not know (it was damaged) are entered.
     */
    adopt: async ({ signal }: Waiting): Promise<void> => {
      mkdirSync(jobs, { recursive: true, mode: 0o700 })
      for (const name of readdirSync(jobs)) {
        await sweepTemporaryFiles(join(jobs, name))
        const plan = readJobSpec(join(jobs, name))?.plan
        if (plan?.name === name && !table.has(name)) enter(newRecord(plan))
      }
      await Promise.all([...table.values()].map((managed) => managed.adopt(signal)))
    },

    /**
     * Brings the processes to a plan; those that left it are stopped. Resolves when each is ready, running, done or
     * failed; a failure is an outcome, not an error.
     * @throws the signal's reason
     */
    apply: async (
      plan: readonly PlannedProcess[],
      { signal }: Waiting,
    ): Promise<readonly ProcessOutcome[]> => {
      const waiting = AbortSignal.any([signal, lifetime.signal])
      const left = [...table].filter(
        ([name]) => !isOneOff(name) && !plan.some((planned) => planned.name === name),
      )
      // First of all, because what is started next may want the port or the GPU memory of what left.
      const stopped = await Promise.all(
        left.map(async ([name, managed]): Promise<ProcessOutcome> => {
          await managed.leave(waiting)
          table.delete(name)
          return { name, action: 'stopped', state: 'stopped', problem: null }
        }),
      )
      const brought = await applyPlan(plan, {
        processOf: (planned) => table.get(planned.name) ?? enter(newRecord(planned)),
        clock: deps.clock,
        signal: waiting,
      })
      return [...brought, ...stopped]
    },

    /** What `apply` would do, without doing it. */
    preview: (plan: readonly PlannedProcess[]): readonly { name: string; action: PlannedAction }[] => [
      ...plan.map(({ name, digest }) => ({ name, action: previewOne(table.get(name), digest) })),
      ...[...table.keys()]
        .filter((name) => !isOneOff(name) && !plan.some((planned) => planned.name === name))
        .map((name) => ({ name, action: 'stop' as const })),
    ],

    /**
     * Runs a process that no manifest names; those that ended earliest are forgotten when there are many.
     * @throws AgentError why it cannot be started
     */
    runOnce: async (plan: PlannedProcess, { signal }: Waiting): Promise<ProcessRow> => {
      for (const [name, managed] of oldOneOffs(table)) {
        await managed.leave(signal)
        table.delete(name)
        rmSync(join(jobs, name), { recursive: true, force: true })
      }
      const managed = enter(newRecord(plan))
      await managed.bring(plan, AbortSignal.any([signal, lifetime.signal]))
      const { problem, jobId } = managed.record()
      if (problem === null || jobId !== null) return ProcessRow.parse(managed.record())
      await managed.leave(signal)
      table.delete(plan.name)
      throw new AgentError(problem.code, problem.message, { hint: problem.hint })
    },

    /** @throws AgentError not_found, and why it cannot be started */
    start: async (name: string, { signal }: Waiting) => get(name).start(signal),
    /** It stays stopped, over restarts of the agent too, until it is started or its specification changes. */
    stop: async (name: string, { signal }: Waiting) => get(name).stop(signal),
    restart: async (name: string, { signal }: Waiting) => get(name).restart(signal),

    rows: (): readonly ProcessRow[] =>
      [...table.values()].map((managed) => ProcessRow.parse(managed.record())),
    /** @throws AgentError not_found */
    row: (name: string): ProcessRow => ProcessRow.parse(get(name).record()),

    /**
     * The raw output of a process over all its jobs. With `follow` until the process has ended for good.
     * @throws AgentError not_found; the signal's reason
     */
    logs: (
      name: string,
      options: LogRange & Waiting & { readonly follow?: boolean },
    ): AsyncIterable<LogChunk> => {
      const managed = get(name)
      return readOutput(join(jobs, name), {
        ...options,
        clock: deps.clock,
        follow: () => (options.follow ?? false) && isGoingOn(managed),
      })
    },

    /**
     * What a workflow needs of a running ComfyUI, and whether that has it.
     * @param workflow.process which one; the only one that runs by default
     * @throws AgentError not_found, process_not_ready, workflow_invalid
     */
    checkWorkflow: async (
      workflow: { readonly text: string; readonly file: string; readonly process: string | null },
      { signal }: Waiting,
    ): Promise<WorkflowReport> => {
      const name = workflow.process ?? [...table.values()].find(isRunningComfyUI)?.record().name
      if (name === undefined)
        throw new AgentError('process_not_ready', 'no ComfyUI runs on this box', {
          hint: 'Apply a manifest with a comfyui process, or start it.',
        })
      const managed = get(name)
      const folder = join(jobs, name)
      const proof = readJobSpec(folder)?.plan.proof
      if (!proof || !managed.isAlive())
        throw new AgentError(
          'process_not_ready',
          `${name} is ${managed.record().state}, and no ComfyUI that runs`,
        )
      const logStart = managed.logStart()
      return reportWorkflow(workflow, { name, folder, logStart, proof, clock: deps.clock, signal })
    },

    /**
     * The terminal of a process.
     * @throws AgentError not_found; terminal_unavailable when it does not run or has only a log
     */
    terminal: async (
      name: string,
      options: Waiting & { readonly fromOffset?: number },
    ): Promise<Attachment> => {
      const managed = get(name)
      const folder = join(jobs, name)
      const spec = readJobSpec(folder)
      if (spec === undefined || !managed.isAlive())
        throw new AgentError(
          'terminal_unavailable',
          `${name} has no terminal: it is ${managed.record().state}`,
        )
      return attachToJob(spec, { ...options, folder })
    },

    services: [
      {
        name: 'processes',
        /** The supervision goes on from the first process; this ends it with the agent and leaves the shims alive. */
        run: async (signal: AbortSignal): Promise<void> => {
          const ended = Promise.withResolvers<undefined>()
          if (signal.aborted) ended.resolve(undefined)
          signal.addEventListener('abort', () => ended.resolve(undefined), { once: true })
          await ended.promise
          lifetime.abort(signal.reason)
          await Promise.all(going)
        },
      },
    ] as const,
  }
}
export type Processes = ReturnType<typeof createProcesses>

/** A name that no manifest can give. */
export const ONE_OFF_PREFIX = 'exec.'

/** True for a process that was run once on request and belongs to no manifest. */
export const isOneOff = (name: string): boolean => name.startsWith(ONE_OFF_PREFIX)

/** Output is kept for whoever asks later, though not for ever. */
const ONE_OFFS_KEPT = 20

const oldOneOffs = (table: ReadonlyMap<string, ManagedProcess>): readonly [string, ManagedProcess][] =>
  [...table]
    .filter(([name, managed]) => isOneOff(name) && !managed.isAlive())
    .sort(([, one], [, other]) =>
      (one.record().startedAt ?? '') < (other.record().startedAt ?? '') ? 1 : -1,
    )
    .slice(ONE_OFFS_KEPT)

/** Without a reader nothing is known of the GPUs. */
const noGpus: ReadGpuLoad = () => Promise.resolve(null)

const isRunningComfyUI = (managed: ManagedProcess): boolean =>
  managed.isAlive() && managed.record().kind === 'comfyui'

type PlannedAction = 'start' | 'restart' | 'keep' | 'stop'

const previewOne = (managed: ManagedProcess | undefined, digest: string): PlannedAction => {
  if (managed?.isKept(digest)) return 'keep'
  return managed?.isAlive() ? 'restart' : 'start'
}

const isGoingOn = (managed: ManagedProcess): boolean =>
  managed.isAlive() || managed.record().state === 'waiting' || LIVE_STATES.includes(managed.record().state)
