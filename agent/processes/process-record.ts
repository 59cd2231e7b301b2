import { z } from 'zod'
import { ProcessRow } from '../../shared/contract/records.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import type { StoredPlan } from './planned-process.ts'

/** Everything durable about one process: what is shown of it, and what decides about its next start. */
export const ProcessRecord = ProcessRow.omit({ queue: true }).extend({
  digest: z.string(),
  /** `stop`: stopped on purpose, which outlives the agent. */
  desired: z.enum(['run', 'stop']),
  jobId: z.string().nullable(),
  /** The specification whose job ended with 0. */
  finishedDigest: z.string().nullable(),
})
export type ProcessRecord = Readonly<z.infer<typeof ProcessRecord>>

/** States of a process that has a job, as far as is known. */
export const LIVE_STATES: readonly ProcessState[] = [
  'starting',
  'ready',
  'running',
  'stopping',
  'unresponsive',
]

/** The record of a process that was never started. */
export const newRecord = (plan: StoredPlan): ProcessRecord => ({
  ...planFields(plan),
  name: plan.name,
  state: 'stopped',
  pid: null,
  restarts: 0,
  startedAt: null,
  exitCode: null,
  signal: null,
  problem: null,
  desired: 'run',
  jobId: null,
  finishedDigest: null,
})

/** What a record takes over from its plan. */
export const planFields = (plan: StoredPlan): Pick<ProcessRecord, 'kind' | 'digest' | 'url'> => ({
  kind: plan.spec.kind,
  digest: plan.digest,
  url: plan.url,
})
