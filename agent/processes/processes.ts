import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { WorkflowReport } from '../../shared/contract/records.ts'
import { ProcessRow } from '../../shared/contract/records.ts'
import { sweepTemporaryFiles } from '../platform/files.ts'
import type { ProcessActivity } from './activity.ts'
import { judgeActivity } from './activity.ts'
import type { ProcessOutcome } from './apply-plan.ts'
import { applyPlan } from './apply-plan.ts'
import type { Attachment } from './attach.ts'
import { attachToJob, noTerminal } from './attach.ts'
import { readJobSpec } from './job-records.ts'
import { reportWorkflow } from './kinds/comfyui/prove-comfyui.ts'
import type { ManagedProcess, Occasion } from './managed-process.ts'
import { isOneOff, runOneOff } from './one-offs.ts'
import type { LogChunk, LogRange } from './output-log.ts'
import { readOutput } from './output-log.ts'
import type { PlannedProcess } from './planned-process.ts'
import { LIVE_STATES, newRecord } from './process-record.ts'
import type { ProcessesDeps } from './process-table.ts'
import { createProcessTable } from './process-table.ts'

type Waiting = { readonly signal: AbortSignal }

/** Everything the agent keeps running or runs once. The jobs live under shims of their own and outlive this. */
export const createProcesses = (deps: ProcessesDeps) => {
  const table = createProcessTable(deps)
  const folderOf = (name: string): string => join(table.jobsFolder, name)
  /** What the manifest named, and a plan no longer does. */
  const leavers = (plan: readonly PlannedProcess[]): readonly string[] =>
    table
      .all()
      .map(([name]) => name)
      .filter((name) => !isOneOff(name) && !plan.some((planned) => planned.name === name))

  /** True for one whose output is all that is kept of it. */
  const hasLeft = (name: string): boolean =>
    table.find(name) === undefined &&
    existsSync(table.jobsFolder) &&
    readdirSync(table.jobsFolder).includes(name)

  return {
    /**
     * At the agent's start: every job's folder is looked at, all at once, each for two seconds at most. What lives is
     * taken back, what ended meanwhile is recorded. Folders that the table does not know (it was damaged) are entered.
     */
    adopt: async ({ signal }: Waiting): Promise<void> => {
      mkdirSync(table.jobsFolder, { recursive: true, mode: 0o700 })
      for (const name of readdirSync(table.jobsFolder)) {
        await sweepTemporaryFiles(folderOf(name))
        const plan = readJobSpec(folderOf(name))?.plan
        if (plan?.name === name && table.find(name) === undefined) table.enter(newRecord(plan))
      }
      await Promise.all(table.all().map(([, managed]) => managed.adopt(signal)))
    },

    /**
     * Brings the processes to a plan; those that left it are stopped. Resolves when each is ready, running, done or
     * failed; a failure is an outcome, not an error.
     * @throws the signal's reason
     */
    apply: async (
      plan: readonly PlannedProcess[],
      { signal, atBoot = false }: Waiting & Partial<Occasion>,
    ): Promise<readonly ProcessOutcome[]> => {
      const waiting = AbortSignal.any([signal, table.lifetime])
      // First of all, because what is started next may want the port or the GPU memory of what left.
      const stopped = await Promise.all(
        leavers(plan).map(async (name): Promise<ProcessOutcome> => {
          await table.drop(name, waiting)
          return { name, action: 'stopped', state: 'stopped', problem: null }
        }),
      )
      const brought = await applyPlan(plan, {
        processOf: (planned) => table.find(planned.name) ?? table.enter(newRecord(planned)),
        clock: deps.clock,
        signal: waiting,
        atBoot,
      })
      return [...brought, ...stopped]
    },

    /** What `apply` would do, without doing it. */
    preview: (plan: readonly PlannedProcess[]): readonly { name: string; action: PlannedAction }[] => [
      ...plan.map((planned) => ({
        name: planned.name,
        action: previewOne(table.find(planned.name), planned),
      })),
      ...leavers(plan).map((name) => ({ name, action: 'stop' as const })),
    ],

    /** Runs a process that no manifest names. @throws AgentError why it cannot be started */
    runOnce: async (plan: PlannedProcess, { signal }: Waiting): Promise<ProcessRow> =>
      rowOf(await runOneOff(plan, { table, signal })),

    /** @throws AgentError not_found, and why it cannot be started */
    start: async (name: string, { signal }: Waiting) => table.get(name).start(signal),
    /** It stays stopped, over restarts of the agent too, until it is started or its specification changes. */
    stop: async (name: string, { signal }: Waiting) => table.get(name).stop(signal),
    restart: async (name: string, { signal }: Waiting) => table.get(name).restart(signal),

    rows: (): readonly ProcessRow[] => table.all().map(([, managed]) => rowOf(managed)),
    /** @throws AgentError not_found */
    row: (name: string): ProcessRow => rowOf(table.get(name)),

    /** Who is in use, and why: whether the box is idle, as far as its processes know. */
    activity: (): readonly ProcessActivity[] =>
      table.all().map(([, managed]) =>
        judgeActivity({
          record: managed.record(),
          isAlive: managed.isAlive(),
          spec: managed.spec(),
          queue: managed.queue(),
          ...managed.visits.facts(),
        }),
      ),
    /** Somebody uses its web page now. @throws AgentError not_found */
    noteWebUse: (name: string): void => table.get(name).visits.web(),

    /**
     * The raw output of a process over all its jobs, also of one that left the manifest. With `follow` until the process
     * has ended for good.
     * @throws AgentError not_found; the signal's reason
     */
    logs: (
      name: string,
      options: LogRange & Waiting & { readonly follow?: boolean },
    ): AsyncIterable<LogChunk> => {
      const managed = hasLeft(name) ? undefined : table.get(name)
      return readOutput(folderOf(name), {
        ...options,
        clock: deps.clock,
        follow: () => (options.follow ?? false) && managed !== undefined && isGoingOn(managed),
      })
    },

    /**
     * The terminal of a process.
     * @throws AgentError not_found; terminal_unavailable when it does not run or has only a log
     */
    terminal: async (
      name: string,
      options: Waiting & { readonly fromOffset?: number },
    ): Promise<Attachment> => {
      const managed = table.get(name)
      const folder = folderOf(name)
      const spec = readJobSpec(folder)
      if (spec === undefined || !managed.isAlive())
        throw noTerminal(name, `has no terminal: it is ${managed.record().state}`)
      const attachment = await attachToJob(spec, { ...options, folder })
      managed.visits.attached(attachment.closed)
      return attachment
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
      const name = workflow.process ?? table.all().find(([, managed]) => isRunningComfyUI(managed))?.[0]
      if (name === undefined)
        throw new AgentError('process_not_ready', 'no ComfyUI runs on this box', {
          hint: 'Apply a manifest with a comfyui process, or start it.',
        })
      const managed = table.get(name)
      const folder = folderOf(name)
      const proof = readJobSpec(folder)?.plan.proof
      if (!proof || !managed.isAlive()) {
        const why = `${name} is ${managed.record().state}, and no ComfyUI that runs`
        throw new AgentError('process_not_ready', why)
      }
      const logStart = managed.logStart()
      return reportWorkflow(workflow, { name, folder, logStart, proof, clock: deps.clock, signal })
    },

    services: [{ name: 'processes', run: table.run }] as const,
  }
}
export type Processes = ReturnType<typeof createProcesses>

const rowOf = (managed: ManagedProcess): ProcessRow =>
  ProcessRow.parse({ ...managed.record(), queue: managed.queue() })

const isRunningComfyUI = (managed: ManagedProcess): boolean =>
  managed.isAlive() && managed.record().kind === 'comfyui'

type PlannedAction = 'start' | 'restart' | 'keep' | 'stop'

const previewOne = (managed: ManagedProcess | undefined, planned: PlannedProcess): PlannedAction => {
  if (managed?.isKept(planned, { atBoot: false })) return 'keep'
  return managed?.isAlive() ? 'restart' : 'start'
}

const isGoingOn = (managed: ManagedProcess): boolean =>
  managed.isAlive() || managed.record().state === 'waiting' || LIVE_STATES.includes(managed.record().state)
