import { rmSync } from 'node:fs'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { createVisits } from './activity.ts'
import { endProblem, unplanned } from './describe-end.ts'
import { findJob } from './find-job.ts'
import { readJobSpec } from './job-records.ts'
import { createQueue } from './notifier.ts'
import type { PlannedProcess } from './planned-process.ts'
import type { ProcessDeps } from './process-deps.ts'
import { createProcessLife } from './process-life.ts'
import type { ProcessRecord } from './process-record.ts'
import { planFields } from './process-record.ts'
import { specFile } from './shim/records.ts'

/** `atBoot`: nobody asked for it now, the agent was started. */
export type Occasion = { readonly atBoot: boolean }

/** What can be asked of one process. Requests are carried out one after another. */
export const createManagedProcess = (initial: ProcessRecord, deps: ProcessDeps) => {
  const { clock, folder, lifetime } = deps
  const { name } = initial
  const inTurn = createQueue()
  const life = createProcessLife(initial, { ...deps, inTurn })

  const beginAnew = async (change: Partial<ProcessRecord> = {}, fresh = false): Promise<void> => {
    life.forgetExits()
    life.update({ ...change, desired: 'run', restarts: 0, finishedDigest: null })
    await life.begin(fresh)
  }

  /**
   * Alive, stopped on purpose, or done for good; at the agent's own start also a job that has failed or was lost: hours of
   * a GPU are not spent once more because the agent was restarted. Anything else is begun when its plan is applied again.
   */
  const isKept = ({ digest, spec }: PlannedProcess, { atBoot }: Occasion): boolean => {
    const { digest: own, desired, finishedDigest, state, exitCode, signal } = life.record()
    // One that runs and has failed cannot come right by itself: its custom nodes are imported at a start alone.
    const goesOn = life.isAlive() && state !== 'failed'
    const hasEnded = state === 'lost' || (state === 'failed' && (exitCode !== null || signal !== null))
    const isOver = atBoot && spec.restart !== 'always' && hasEnded && !life.isAlive()
    return own === digest && (goesOn || desired === 'stop' || finishedDigest === digest || isOver)
  }

  const startOrRestart = async (signal: AbortSignal): Promise<'started' | 'restarted'> => {
    if (!life.isPlanned()) throw unplanned(name)
    const wasAlive = life.isAlive()
    await life.end(signal)
    await beginAnew({}, true)
    const { state, problem } = life.record()
    if (state === 'failed' && problem)
      throw new AgentError(problem.code, problem.message, { hint: problem.hint })
    return wasAlive ? 'restarted' : 'started'
  }

  return {
    record: life.record,
    changes: life.changes,
    isKept,
    isAlive: life.isAlive,
    findings: life.findings,
    logStart: life.logStart,
    spec: life.spec,
    queue: life.queue,
    /** Who uses it now. */
    visits: createVisits(clock),

    /** Finds out, after the agent's start, what became of the job. Resolves at the first certain look. */
    adopt: (signal: AbortSignal): Promise<void> =>
      inTurn(async () => {
        const spec = readJobSpec(folder)
        if (spec === undefined) {
          const problem = endProblem({ name, folder, exit: undefined, logStart: 0 }, 'error')
          if (life.isLive()) life.update({ state: 'lost', pid: null, problem })
          return
        }
        const isKnown = life.record().jobId === spec.jobId
        if (isKnown && !life.isLive()) return
        const found = await findJob(spec, { folder, clock, signal: AbortSignal.any([signal, lifetime]) })
        // A job that was started a moment before the agent was killed: its folder knows more than the table.
        if (!isKnown)
          life.update({ ...planFields(spec.plan), jobId: spec.jobId, state: 'starting', pid: null })
        life.follow(spec, found)
        if (found.kind !== 'silent')
          await life.changes.until(
            () => (!life.isAlive() || life.record().pid !== null ? true : undefined),
            AbortSignal.any([signal, lifetime]),
          )
      }),

    /** Brings it to a plan. */
    bring: (
      next: PlannedProcess,
      { signal, atBoot }: Occasion & { readonly signal: AbortSignal },
    ): Promise<'kept' | 'started' | 'restarted'> =>
      inTurn(async () => {
        life.setPlan(next)
        if (isKept(next, { atBoot })) {
          await life.proveAgain(signal)
          return 'kept'
        }
        const wasAlive = life.isAlive()
        await life.end(signal)
        await beginAnew(planFields(next))
        return wasAlive ? 'restarted' : 'started'
      }),

    /** It waits for another process, or cannot start because of it. */
    hold: (state: 'waiting' | 'failed' | 'stopped', problem: Problem | null): void => {
      life.update({ state, problem })
    },

    start: (signal: AbortSignal): Promise<'started' | 'already_running'> =>
      inTurn(async () => {
        if (life.isAlive()) return 'already_running'
        await startOrRestart(signal)
        return 'started'
      }),

    stop: (signal: AbortSignal): Promise<'stopped' | 'already_stopped'> =>
      inTurn(async () => {
        const wasAlive = life.isAlive()
        life.update({ desired: 'stop' })
        await life.end(signal)
        if (wasAlive) return 'stopped'
        if (life.record().state !== 'exited') life.update({ state: 'stopped', problem: null })
        return 'already_stopped'
      }),

    restart: (signal: AbortSignal): Promise<'started' | 'restarted'> => inTurn(() => startOrRestart(signal)),

    /** It left the manifest: stopped, and forgotten but for its output. */
    leave: (signal: AbortSignal): Promise<void> =>
      inTurn(async () => {
        life.update({ desired: 'stop' })
        await life.end(signal)
        rmSync(specFile(folder), { force: true })
        deps.store.remove(name)
      }),
  }
}
export type ManagedProcess = ReturnType<typeof createManagedProcess>
