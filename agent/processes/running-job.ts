import type { Problem } from '../../shared/contract/errors.ts'
import type { ProcessQueue } from '../../shared/contract/records.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import { createJobProof } from './job-proof.ts'
import type { JobProof } from './job-proof.ts'
import type { JobSpec } from './job-records.ts'
import type { ShimConnection } from './shim-connection.ts'

/** A job that lives, as far as is known, with what those who watch it have found. */
export type RunningJob = {
  readonly spec: JobSpec
  /** Aborted when it has ended. */
  readonly over: AbortController
  readonly startedMs: number
  readonly proof: JobProof
  /** Undefined until its shim has greeted. */
  connection: ShimConnection | undefined
  /** Where in its process's output it begins. */
  logStart: number
  /** What its sign of readiness says. */
  told: JobView
  /** Why it counts as hanging, though it answers. */
  hang: Problem | null
  /** What a ComfyUI has to do. */
  queue: ProcessQueue | null
  /** Why it is ended by the agent's own judgement. */
  failure: Problem | undefined
}

/** A job as it is shown, while its shim answers. */
export type JobView = { readonly state: ProcessState; readonly problem: Problem | null }

/** @param state what an adopted job was last known to be; it need not prove again what it has proven */
export const createRunningJob = (
  spec: JobSpec,
  { state, startedMs }: { readonly state: ProcessState; readonly startedMs: number },
): RunningJob => ({
  spec,
  over: new AbortController(),
  startedMs,
  proof: createJobProof(spec.plan),
  connection: undefined,
  logStart: 0,
  told: { state, problem: null },
  hang: null,
  queue: null,
  failure: undefined,
})

/** Everything together: what it lacks comes before whether it goes on, for one that answers. */
export const viewJob = ({ told, proof, hang }: RunningJob): JobView => {
  if (told.state !== 'ready') return told
  return proof.obstacle() ?? (hang === null ? told : { state: 'unresponsive', problem: hang })
}
