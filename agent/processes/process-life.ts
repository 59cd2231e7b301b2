import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { ProcessQueue } from '../../shared/contract/records.ts'
import { endProblem, silentProblem, terminalProblem, unplanned } from './describe-end.ts'
import { endOverdue } from './end-overdue.ts'
import type { FoundJob } from './find-job.ts'
import type { JobSpec } from './job-records.ts'
import { readJobExit, readJobSpec, readJobState } from './job-records.ts'
import { judgeEnd } from './judge-end.ts'
import { createNotifier } from './notifier.ts'
import type { PlannedProcess } from './planned-process.ts'
import type { ProcessDeps } from './process-deps.ts'
import type { ProcessRecord } from './process-record.ts'
import { LIVE_STATES } from './process-record.ts'
import { NO_EXITS } from './restart-policy.ts'
import { createRunningJob, viewJob } from './running-job.ts'
import type { RunningJob } from './running-job.ts'
import type { ShimConnection } from './shim-connection.ts'
import { specFile } from './shim/records.ts'
import { startJob } from './start-job.ts'
import { superviseJob } from './supervise-job.ts'
import type { JobOutcome } from './watch-job.ts'
import { watchJob } from './watch-job.ts'

/**
 * The life of one process over all its jobs: begun, followed to its end however that comes, begun again by its policy.
 * The end of a job is taken note of at once; beginnings and ends on request come one after another (managed-process.ts).
 */
export const createProcessLife = (
  initial: ProcessRecord,
  deps: ProcessDeps & { readonly inTurn: <T>(work: () => Promise<T>) => Promise<T> },
) => {
  const { clock, folder, lifetime, report } = deps
  const { name } = initial
  const changes = createNotifier()
  let record = initial
  let plan: PlannedProcess | undefined
  let job: RunningJob | undefined
  let history = NO_EXITS
  let ending = false
  let comeback = new AbortController()

  const update = (change: Partial<ProcessRecord>): void => {
    const before = record.state
    record = { ...record, ...change }
    if (change.problem)
      record = { ...record, problem: { ...change.problem, message: deps.redact(change.problem.message) } }
    try {
      deps.store.save(record)
    } catch (error) {
      // A full disk must not end the supervision; the job's folder still tells the truth.
      deps.log.error('the state of a process cannot be saved', { name, error: String(error) })
    }
    if (record.state !== before)
      report({ type: 'process.state', subject: name, data: { state: record.state, from: before } })
    changes.notify()
  }

  /** @param fresh begun on request: what an earlier job made does not count as this one's work */
  const begin = async (fresh = false): Promise<void> => {
    if (plan === undefined) throw unplanned(name)
    update({ state: 'starting', problem: null, pid: null, startedAt: null, exitCode: null, signal: null })
    try {
      const started = await startJob(plan, { ...deps, fresh, signal: lifetime })
      const spec = readJobSpec(folder)
      if (spec === undefined) throw new AgentError('io_error', `${specFile(folder)} is gone`)
      update({ jobId: started.jobId })
      if (started.kind === 'connected') {
        follow(spec, started)
        return
      }
      const exit = readJobExit(folder, started.jobId)
      recordEnd(exit ? { kind: 'ended', exit } : { kind: 'lost', state: undefined }, 0)
    } catch (error) {
      if (lifetime.aborted) throw error
      update({ state: 'failed', problem: problemFrom(error, name) })
    }
  }

  const follow = (spec: JobSpec, found: FoundJob): void => {
    const isNew = record.state === 'starting' && record.pid === null
    const isProven = record.jobId === spec.jobId && (record.state === 'ready' || record.state === 'running')
    const state = isProven ? record.state : 'starting'
    const current = createRunningJob(spec, { state, startedMs: clock.monotonicMs() })
    job = current
    const watched = watchJob(
      { spec, found },
      {
        folder,
        clock,
        signal: lifetime,
        onConnected: (connection) => greet(current, { connection, isNew }),
        onSilent: () => update({ state: ending ? 'stopping' : 'unresponsive', problem: silentProblem(name) }),
      },
    )
    deps.track(watched.then((end) => recordEnd(end, clock.monotonicMs() - current.startedMs)))
  }

  const greet = (current: RunningJob, found: { connection: ShimConnection; isNew: boolean }): void => {
    const { hello } = found.connection
    const returned = current.connection !== undefined
    current.connection = found.connection
    current.logStart = hello.logStart
    // The shim remembers the environment, so a process can be restarted before the manifest is applied again.
    plan ??= { ...current.spec.plan, environment: hello.environment }
    const warning = hello.terminal === 'pty' ? null : terminalProblem(name, hello.terminalProblem)
    const stopping = ending || record.desired === 'stop'
    if (!returned) {
      current.told = { ...current.told, problem: warning }
      const type = found.isNew ? 'process.started' : 'process.adopted'
      report({ type, subject: name, data: { pid: hello.pid, jobId: hello.jobId } })
    }
    update({
      ...(stopping ? { state: 'stopping', problem: warning } : viewJob(current)),
      ...{ jobId: hello.jobId, pid: hello.pid, startedAt: hello.startedAt },
    })
    if (stopping) askToStop(current)
    if (stopping || returned) return
    superviseJob(current, {
      ...deps,
      ...{ name, warning },
      signal: AbortSignal.any([lifetime, current.over.signal]),
      onChange: () => show(current),
      onFailure: (problem) => {
        current.failure = problem
        askToStop(current)
      },
    })
  }

  const show = (current: RunningJob): void => {
    if (!ending && job === current) update(viewJob(current))
  }

  const recordEnd = (end: JobOutcome, ranMs: number): void => {
    const { failure, spec = readJobSpec(folder) } = job ?? { failure: undefined }
    // A job that ends at once does so before its shim was greeted.
    const logStart = readJobState(folder, spec?.jobId ?? '')?.logStart ?? job?.logStart ?? 0
    job?.over.abort(cancelled(name))
    job = undefined
    const exit = end.kind === 'ended' ? end.exit : undefined
    const fields = { pid: null, exitCode: exit?.exitCode ?? null, signal: exit?.signal ?? null }
    const why = failure && { problem: failure.message }
    report({ type: 'process.exited', subject: name, data: { ...fields, oom: exit?.oom ?? false, ...why } })
    // After a boot everything is begun anew by whoever applies the manifest; nothing failed here.
    if (ending || record.desired === 'stop' || end.kind === 'rebooted') {
      update({ ...fields, state: 'stopped', problem: null })
      return
    }
    const ended = { name, folder, exit, spec, failure, logStart }
    const verdict = judgeEnd(ended, {
      policy: plan?.spec ?? spec?.plan.spec ?? { restart: 'never', retries: 0 },
      ...{ history, ranMs, atMs: clock.monotonicMs(), random: deps.random },
    })
    history = verdict.history
    const comesBack = verdict.comesBackMs !== null
    // That it was lost is said before it comes back: it may have done half of its work.
    if (!exit && comesBack) update({ ...fields, state: 'lost', problem: endProblem(ended, 'error') })
    update({
      ...fields,
      ...verdict.change,
      ...(verdict.change.state === 'exited' ? { finishedDigest: record.digest } : {}),
      ...(comesBack ? { restarts: record.restarts + 1 } : {}),
    })
    if (verdict.comesBackMs !== null) deps.track(comeBack(verdict.comesBackMs, comeback.signal))
  }

  /** Without a plan (the agent was started anew and nothing was applied yet) the next apply begins it. */
  const comeBack = async (delayMs: number, signal: AbortSignal): Promise<void> => {
    await clock.sleep(delayMs, AbortSignal.any([signal, lifetime]))
    await deps.inTurn(async () => {
      if (!signal.aborted && job === undefined && plan !== undefined) await begin()
    })
  }

  const askToStop = (current: RunningJob): void => {
    const { stop } = current.spec.plan.spec
    current.connection?.send({ type: 'stop', signal: stop.signal, timeoutMs: stop.timeout })
  }

  const end = async (signal: AbortSignal): Promise<void> => {
    comeback.abort(cancelled(name))
    comeback = new AbortController()
    const current = job
    if (current === undefined) return
    ending = true
    try {
      update({ state: 'stopping' })
      askToStop(current)
      const waiting = AbortSignal.any([signal, lifetime])
      const gone = changes.until(() => (job === current ? undefined : true), waiting)
      const isAnswering = current.connection !== undefined
      await endOverdue(gone, { spec: current.spec, isAnswering, clock, signal: waiting })
    } finally {
      ending = false
    }
  }

  return {
    changes,
    record: (): ProcessRecord => record,
    isAlive: (): boolean => job !== undefined,
    /** Alive, or recorded as such by an agent that is gone. */
    isLive: (): boolean => record.pid !== null || LIVE_STATES.includes(record.state),
    isPlanned: (): boolean => plan !== undefined,
    /** How it is run, by its running job or else by its plan. */
    spec: (): PlannedProcess['spec'] | undefined => (job?.spec.plan ?? plan)?.spec,
    setPlan: (next: PlannedProcess): void => {
      plan = next
    },
    update,
    begin,
    queue: (): ProcessQueue | null => job?.queue ?? null,
    /** What the proof of the running job found; empty where there is none. */
    findings: (): readonly Problem[] => job?.proof.findings() ?? [],
    /** Where in its output the running job begins. */
    logStart: (): number => job?.logStart ?? 0,
    /** Looks again at a running job that has not proven what its plan says by now. */
    proveAgain: async (signal: AbortSignal): Promise<void> => {
      const current = job
      if (current?.told.state !== 'ready' || !current.proof.isDue()) return
      const over = AbortSignal.any([signal, lifetime, current.over.signal])
      await current.proof.look({ folder, logStart: current.logStart, clock, signal: over })
      show(current)
    },
    /** Follows a job that was found; its end, which may be known already, is taken note of. */
    follow,
    /** Ends the job, where there is one, and calls off its return. */
    end,
    forgetExits: (): void => {
      history = NO_EXITS
    },
  }
}

const cancelled = (name: string): AgentError => new AgentError('cancelled', `the job of ${name} is over`)
