import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import {
  crashProblem,
  endProblem,
  judgedProblem,
  silentProblem,
  terminalProblem,
  unplanned,
} from './describe-end.ts'
import { endOverdue } from './end-overdue.ts'
import type { FoundJob } from './find-job.ts'
import { followReadiness } from './follow-readiness.ts'
import type { JobProof } from './job-proof.ts'
import { createJobProof } from './job-proof.ts'
import type { JobSpec } from './job-records.ts'
import { readJobExit, readJobSpec } from './job-records.ts'
import { createNotifier } from './notifier.ts'
import { findShortage } from './kinds/expectations.ts'
import { watchStall } from './kinds/watch-stall.ts'
import type { PlannedProcess } from './planned-process.ts'
import type { ProcessDeps } from './process-deps.ts'
import type { ProcessRecord } from './process-record.ts'
import { LIVE_STATES } from './process-record.ts'
import type { RestartHistory } from './restart-policy.ts'
import { addExit, decideRestart } from './restart-policy.ts'
import type { ShimConnection } from './shim-connection.ts'
import { specFile } from './shim/records.ts'
import { startJob } from './start-job.ts'
import type { JobOutcome } from './watch-job.ts'
import { watchJob } from './watch-job.ts'

/** A job that lives, as far as is known. */
type Job = {
  readonly spec: JobSpec
  /** Aborted when it has ended. */
  readonly over: AbortController
  readonly startedMs: number
  connection: ShimConnection | undefined
  /** What its own signs say; the shown state may differ while its shim is silent. */
  state: ProcessState
  readonly proof: JobProof
  logStart: number
  /** Why it is ended by the agent's own judgement. */
  failure: Problem | undefined
}

const FRESH: RestartHistory = { exitsMs: [], attempts: 0 }

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
  let job: Job | undefined
  let history = FRESH
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
    const proven = record.jobId === spec.jobId && (record.state === 'ready' || record.state === 'running')
    const current: Job = {
      spec,
      over: new AbortController(),
      startedMs: clock.monotonicMs(),
      connection: undefined,
      state: proven ? record.state : 'starting',
      proof: createJobProof(spec.plan),
      logStart: 0,
      failure: undefined,
    }
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

  const greet = (current: Job, found: { connection: ShimConnection; isNew: boolean }): void => {
    const { hello } = found.connection
    const returned = current.connection !== undefined
    current.connection = found.connection
    // The shim remembers the environment, so a process can be restarted before the manifest is applied again.
    plan ??= { ...current.spec.plan, environment: hello.environment }
    const warning = hello.terminal === 'pty' ? null : terminalProblem(name, hello.terminalProblem)
    const stopping = ending || record.desired === 'stop'
    if (!returned)
      report({
        type: found.isNew ? 'process.started' : 'process.adopted',
        subject: name,
        data: { pid: hello.pid, jobId: hello.jobId },
      })
    update({
      state: stopping ? 'stopping' : current.state,
      jobId: hello.jobId,
      pid: hello.pid,
      startedAt: hello.startedAt,
      problem: warning,
    })
    if (stopping) askToStop(current)
    if (stopping || returned) return
    current.logStart = hello.logStart
    const signal = AbortSignal.any([lifetime, current.over.signal])
    const { readiness, stallMs } = current.spec.plan
    deps.track(
      followReadiness(current.state, {
        name,
        folder,
        clock,
        readiness,
        logStart: hello.logStart,
        signal,
        prove: () => current.proof.look({ folder, logStart: hello.logStart, clock, signal }),
        onState: (state, problem) => show(current, { state, problem: problem ?? warning }),
      }),
    )
    if (stallMs !== null)
      deps.track(
        watchStall({ ...deps, name, stallMs, signal }).then((problem) => {
          current.failure = problem
          askToStop(current)
        }),
      )
  }

  /** One that answers and lacks what it needs is `running`. */
  const show = (
    current: Job,
    told: { readonly state: ProcessState; readonly problem: Problem | null },
  ): void => {
    const obstacle = told.state === 'ready' ? current.proof.obstacle() : null
    current.state = obstacle ? 'running' : told.state
    if (!ending && job === current) update({ state: current.state, problem: obstacle ?? told.problem })
  }

  const recordEnd = (end: JobOutcome, ranMs: number): void => {
    const { failure: judgement, spec = readJobSpec(folder) } = job ?? { failure: undefined }
    job?.over.abort(cancelled(name))
    job = undefined
    const exit = end.kind === 'ended' ? end.exit : undefined
    const fields = { pid: null, exitCode: exit?.exitCode ?? null, signal: exit?.signal ?? null }
    report({ type: 'process.exited', subject: name, data: { ...fields, oom: exit?.oom ?? false } })
    // After a boot everything is begun anew by whoever applies the manifest; nothing failed here.
    if (ending || record.desired === 'stop' || end.kind === 'rebooted') {
      update({ ...fields, state: 'stopped', problem: null })
      return
    }

    history = addExit(history, { atMs: clock.monotonicMs(), ranMs })
    const failure = judgement ?? (exit?.exitCode === 0 ? findFailure(spec) : undefined)
    const success = exit?.exitCode === 0 && failure === undefined
    const decision = decideRestart(exit ? { kind: 'exit', success } : { kind: 'lost' }, {
      spec: plan?.spec ?? spec?.plan.spec ?? { restart: 'never', retries: 0 },
      history,
      random: deps.random,
    })
    const subject = { name, folder, exit }
    const toldEnd = (severity: Problem['severity']): Problem =>
      failure ? { ...judgedProblem(failure, subject), severity } : endProblem(subject, severity)
    switch (decision.kind) {
      case 'finished':
        update({ ...fields, state: 'exited', problem: null, finishedDigest: record.digest })
        break
      case 'failed':
        update({ ...fields, state: exit ? 'failed' : 'lost', problem: toldEnd('error') })
        break
      case 'crash-looping':
        update({ ...fields, state: 'crash-looping', problem: crashProblem(subject, decision.exits) })
        break
      case 'restart':
        if (!exit) update({ ...fields, state: 'lost', problem: endProblem(subject, 'error') })
        update({
          ...fields,
          state: 'waiting',
          restarts: record.restarts + 1,
          problem: toldEnd('warning'),
        })
        deps.track(comeBack(decision.delayMs, comeback.signal))
    }
  }

  const findFailure = (spec: JobSpec | undefined): Problem | undefined => {
    const { since, createdAt, plan: stored } = spec ?? {}
    if (!stored?.outputs) return undefined
    return findShortage(stored.outputs, { name, sinceMs: Date.parse(since ?? createdAt ?? '') })
  }

  /** Without a plan (the agent was started anew and nothing was applied yet) the next apply begins it. */
  const comeBack = async (delayMs: number, signal: AbortSignal): Promise<void> => {
    history = { ...history, attempts: history.attempts + 1 }
    await clock.sleep(delayMs, AbortSignal.any([signal, lifetime]))
    await deps.inTurn(async () => {
      if (!signal.aborted && job === undefined && plan !== undefined) await begin()
    })
  }

  const askToStop = (current: Job): void => {
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
    isPlanned: (): boolean => plan !== undefined,
    setPlan: (next: PlannedProcess): void => {
      plan = next
    },
    update,
    begin,
    /** What the proof of the running job found; empty where there is none. */
    findings: (): readonly Problem[] => job?.proof.findings() ?? [],
    /** Where in its output the running job begins. */
    logStart: (): number => job?.logStart ?? 0,
    /** Looks again at a running job that has not proven what its plan says by now. */
    proveAgain: async (signal: AbortSignal): Promise<void> => {
      const current = job
      const canAnswer = current?.state === 'ready' || current?.state === 'running'
      if (!current || !canAnswer || !current.proof.isDue()) return
      const { logStart } = current
      await current.proof.look({
        folder,
        logStart,
        clock,
        signal: AbortSignal.any([signal, lifetime, current.over.signal]),
      })
      show(current, { state: 'ready', problem: null })
    },
    /** Follows a job that was found; its end, which may be known already, is taken note of. */
    follow,
    /** Ends the job, where there is one, and calls off its return. */
    end,
    forgetExits: (): void => {
      history = FRESH
    },
    isLive: (): boolean => LIVE_STATES.includes(record.state),
  }
}

const cancelled = (name: string): AgentError => new AgentError('cancelled', `the job of ${name} is over`)
