import { constants, copyFileSync, existsSync, rmSync } from 'node:fs'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import { processProblem } from './describe-end.ts'
import type { ManagedProcess, Occasion } from './managed-process.ts'
import type { PlannedProcess } from './planned-process.ts'

/** What became of one process when the plan was applied. */
export type ProcessOutcome = {
  readonly name: string
  readonly action: 'kept' | 'started' | 'restarted' | 'stopped' | 'none'
  readonly state: ProcessState
  /** An error: why it is neither ready, running, done nor stopped on purpose. A warning stands beside success. */
  readonly problem: Problem | null
  /** What a process that answers was found to lack, one by one; `problem` is their sum. */
  readonly findings?: readonly Problem[]
}

type ApplyContext = Occasion & {
  readonly processOf: (plan: PlannedProcess) => ManagedProcess
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** Beyond the readiness's own time: for the start itself, and for a few returns after an early end. */
const PATIENCE_MS = 60_000

/** Brings every process of a plan to it, each as soon as those it depends on are ready or have ended with 0. */
export const applyPlan = async (
  plan: readonly PlannedProcess[],
  context: ApplyContext,
): Promise<readonly ProcessOutcome[]> => {
  const begun = new Map(plan.map((planned) => [planned.name, Promise.withResolvers<undefined>()]))
  const faults = findDependencyFaults(plan)
  const others = new Map(plan.map((planned) => [planned.name, planned]))

  const bringOne = async (planned: PlannedProcess): Promise<ProcessOutcome> => {
    const { name } = planned
    const managed = context.processOf(planned)
    const fail = (problem: Problem): ProcessOutcome => {
      if (!managed.isAlive()) managed.hold('failed', problem)
      return { name, action: 'none', state: 'failed', problem }
    }
    try {
      const fault = faults.get(name)
      if (fault) return fail(fault)
      const user = plan.find((other) => other.variants?.step === name)
      if (user !== undefined && context.processOf(user).isKept(user, context)) {
        // Its variants are in use, or were: they are not made again under the job that reads them.
        const { state, problem } = managed.record()
        return { name, action: 'kept', state, problem }
      }
      if (!managed.isKept(planned, context)) {
        // A running one goes on with its old specification until its turn comes.
        if (planned.spec.depends_on.length > 0 && !managed.isAlive()) managed.hold('waiting', null)
        for (const other of planned.spec.depends_on) {
          await begun.get(other)?.promise
          const failed = await untilUsable(others.get(other), context)
          if (failed !== undefined && planned.variants?.step === other && useFallback(planned.variants))
            continue
          if (failed !== undefined) return fail(dependencyProblem(name, { other, state: failed }))
        }
      }
      const action = await managed.bring(planned, context)
      begun.get(name)?.resolve(undefined)
      await untilSettled(managed, { planned, ...context })
      const { state, problem } = managed.record()
      return { name, action, state, problem, findings: managed.findings() }
    } catch (error) {
      if (context.signal.aborted) {
        if (managed.record().state === 'waiting' && !managed.isAlive()) managed.hold('stopped', null)
        throw error
      }
      return { name, action: 'none', state: managed.record().state, problem: problemFrom(error, name) }
    } finally {
      begun.get(name)?.resolve(undefined)
    }
  }

  /** A job that ran when its turn came may have failed since, while others were waited for. */
  const latest = (outcome: ProcessOutcome): ProcessOutcome => {
    const planned = others.get(outcome.name)
    if (planned === undefined || outcome.state !== 'running' || outcome.problem !== null) return outcome
    const { state, problem } = context.processOf(planned).record()
    return { ...outcome, state, problem }
  }

  const settled = await Promise.allSettled(plan.map(bringOne))
  context.signal.throwIfAborted()
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason
    return withFallback(latest(one.value), plan)
  })
}

/** The declared file in the place of what the step should have written; false when there is none. */
const useFallback = ({ file, fallback }: NonNullable<PlannedProcess['variants']>): boolean => {
  if (fallback === null || !existsSync(fallback)) return false
  rmSync(file, { force: true })
  copyFileSync(fallback, file, constants.COPYFILE_EXCL)
  return true
}

/** A step whose failure its manifest provides for is a warning, so that nobody takes the fallback for its work. */
const withFallback = (outcome: ProcessOutcome, plan: readonly PlannedProcess[]): ProcessOutcome => {
  const fallback = plan.find(({ variants }) => variants?.step === outcome.name)?.variants?.fallback
  if (!fallback || outcome.problem?.severity !== 'error' || !existsSync(fallback)) return outcome
  const message = `the variants of ${fallback} are used instead: ${outcome.problem.message}`
  const problem = processProblem('variants_failed', { name: outcome.name, message, severity: 'warning' })
  return { ...outcome, problem }
}

/** Resolves with undefined when the process can be built upon, and with its state when it never will be. */
const untilUsable = async (
  planned: PlannedProcess | undefined,
  { processOf, signal }: ApplyContext,
): Promise<ProcessState | undefined> => {
  if (planned === undefined) return undefined
  const managed = processOf(planned)
  // A service without a sign of readiness will not say more than that it runs; a job must end first.
  const silentService = planned.readiness === null && planned.spec.restart === 'always'
  const usable = await managed.changes.until(() => {
    const record = managed.record()
    switch (record.state) {
      case 'ready':
      case 'exited':
        return { failed: undefined }
      case 'running':
        if (record.problem?.severity === 'error') return { failed: record.state }
        return silentService ? { failed: undefined } : undefined
      case 'failed':
      case 'crash-looping':
      case 'lost':
      case 'stopped':
        return { failed: record.state }
      case 'waiting':
      case 'starting':
      case 'stopping':
      case 'unresponsive':
        return undefined
    }
  }, signal)
  return usable.failed
}

const MOVING: readonly ProcessState[] = ['waiting', 'starting', 'stopping']

/** Until it is ready, running, done or failed; at the longest for the time that it may take to become ready. */
const untilSettled = async (
  managed: ManagedProcess,
  { planned, clock, signal }: ApplyContext & { readonly planned: PlannedProcess },
): Promise<void> => {
  const done = new AbortController()
  const limitMs = (planned.readiness?.withinMs ?? 0) + PATIENCE_MS
  const settled = managed.changes.until(
    () => (MOVING.includes(managed.record().state) ? undefined : 'settled'),
    AbortSignal.any([signal, done.signal]),
  )
  const overdue = clock.sleep(limitMs, AbortSignal.any([signal, done.signal])).then(() => 'overdue')
  try {
    if ((await Promise.race([settled, overdue])) === 'settled') return
    const message = `${planned.name} was not ready within ${Math.round(limitMs / 1000)} s`
    throw new AgentError('process_not_ready', message)
  } finally {
    done.abort()
    await Promise.allSettled([settled, overdue])
  }
}

const dependencyProblem = (
  name: string,
  dependency: { readonly other: string; readonly state: ProcessState },
): Problem =>
  processProblem('process_failed', {
    name,
    message: `${name} was not started, because ${dependency.other}, which it depends on, is ${dependency.state}${dependency.state === 'running' ? ' and not ready' : ''}`,
    hint: `Correct ${dependency.other}, then apply again: agentctl logs ${dependency.other}.`,
  })

/** Dependencies that can never be met: on nothing in the plan, or on each other in a circle. */
const findDependencyFaults = (plan: readonly PlannedProcess[]): ReadonlyMap<string, Problem> => {
  const dependencies = new Map(plan.map(({ name, spec }) => [name, spec.depends_on]))
  const reaches = (from: string, to: string, seen = new Set<string>()): boolean =>
    (dependencies.get(from) ?? []).some((next) => {
      if (next === to) return true
      if (seen.has(next)) return false
      seen.add(next)
      return reaches(next, to, seen)
    })
  const fault = (name: string): string | undefined => {
    const missing = dependencies.get(name)?.find((other) => !dependencies.has(other))
    if (missing !== undefined) return `${name} depends on ${missing}, and there is no such process`
    return reaches(name, name)
      ? `${name} depends on itself, by way of ${dependencies.get(name)?.join(', ') ?? ''}`
      : undefined
  }
  return new Map(
    plan.flatMap(({ name }) => {
      const message = fault(name)
      return message === undefined
        ? []
        : [[name, problemFrom(new AgentError('invalid_manifest', message), name)] as const]
    }),
  )
}
