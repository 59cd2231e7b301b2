import type { Problem } from '../../shared/contract/errors.ts'
import type { ProcessSpec } from '../../shared/manifest/schema.ts'
import { crashProblem, endProblem, judgedProblem } from './describe-end.ts'
import type { JobSpec } from './job-records.ts'
import { findShortage } from './kinds/expectations.ts'
import type { ProcessRecord } from './process-record.ts'
import type { RestartHistory } from './restart-policy.ts'
import { addExit, decideRestart } from './restart-policy.ts'
import type { ShimExit } from './shim/records.ts'

/** A job that ended without being asked to. */
type EndedJob = {
  readonly name: string
  readonly folder: string
  /** undefined: its shim is gone, and nothing says how it ended. */
  readonly exit: ShimExit | undefined
  /** Where in the output of the process this job begins. */
  readonly logStart: number
  readonly spec: JobSpec | undefined
  /** Why the agent itself ended it. */
  readonly failure: Problem | undefined
}

export type EndVerdict = {
  readonly change: Pick<ProcessRecord, 'state' | 'problem'>
  readonly history: RestartHistory
  /** It comes back after so long; null: it does not. */
  readonly comesBackMs: number | null
}

/** What the end of a job means for its process: done, failed, or begun again after a pause. */
export const judgeEnd = (
  ended: EndedJob,
  context: {
    /** How it is to be restarted, by what is known last. */
    readonly policy: Pick<ProcessSpec, 'restart' | 'retries'>
    readonly history: RestartHistory
    readonly atMs: number
    readonly ranMs: number
    readonly random: () => number
  },
): EndVerdict => {
  const { exit } = ended
  const history = addExit(context.history, context)
  const failure = ended.failure ?? (exit?.exitCode === 0 ? findMissingOutputs(ended) : undefined)
  const success = exit?.exitCode === 0 && failure === undefined
  const decision = decideRestart(exit ? { kind: 'exit', success } : { kind: 'lost' }, {
    spec: context.policy,
    history,
    random: context.random,
  })
  const tellEnd = (severity: Problem['severity']): Problem =>
    failure ? { ...judgedProblem(failure, ended), severity } : endProblem(ended, severity)
  switch (decision.kind) {
    case 'finished':
      return { change: { state: 'exited', problem: null }, history, comesBackMs: null }
    case 'failed': {
      const state = exit ? 'failed' : 'lost'
      return { change: { state, problem: tellEnd('error') }, history, comesBackMs: null }
    }
    case 'crash-looping': {
      const problem = crashProblem(ended, decision.exits)
      return { change: { state: 'crash-looping', problem }, history, comesBackMs: null }
    }
    case 'restart':
      return {
        change: { state: 'waiting', problem: tellEnd('warning') },
        history: { ...history, attempts: history.attempts + 1 },
        comesBackMs: decision.delayMs,
      }
  }
}

const findMissingOutputs = ({ name, spec }: EndedJob): Problem | undefined => {
  if (!spec?.plan.outputs) return undefined
  return findShortage(spec.plan.outputs, { name, sinceMs: Date.parse(spec.since ?? spec.createdAt) })
}
