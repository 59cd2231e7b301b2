import { rmSync } from 'node:fs'
import { readBootId } from '../platform/boot-id.ts'
import type { Clock } from '../platform/clock.ts'
import { removeJobCgroup } from './job-cgroup.ts'
import type { JobSpec } from './job-records.ts'
import { readJobExit, readJobState } from './job-records.ts'
import { createTreeFinder, findMarked } from './process-tree.ts'
import type { ShimConnection } from './shim-connection.ts'
import { connectShim } from './shim-connection.ts'
import type { ShimExit, ShimState } from './shim/records.ts'
import { jobMarker, shimMarker } from './shim/records.ts'
import { LEFTOVER_RUNGS, stopTree } from './stop-tree.ts'

/** What became of a job that the agent lost sight of. */
export type FoundJob =
  | { readonly kind: 'connected'; readonly connection: ShimConnection }
  /** The shim lives but does not answer: stopped, or starved. */
  | { readonly kind: 'silent' }
  | { readonly kind: 'ended'; readonly exit: ShimExit }
  /** The box, or its container, was started anew since: nothing of it can be alive. */
  | { readonly kind: 'rebooted'; readonly state: ShimState | undefined }
  /** The shim is dead and left no record. What lived of the job was ended: without its terminal it cannot go on. */
  | { readonly kind: 'lost'; readonly state: ShimState | undefined }

const ANSWER_WITHIN_MS = 2_000

/**
 * Looks for a job by its specification. Signals go only to processes that carry the job's marker, or are proven by pid,
 * start time and marker to belong to it: a pid from a file alone may be anybody's by now.
 */
export const findJob = async (
  spec: JobSpec,
  context: { readonly folder: string; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<FoundJob> => {
  const { folder, clock, signal } = context
  const deadline = clock.monotonicMs() + ANSWER_WITHIN_MS
  const sameBoot = spec.bootId === readBootId()
  while (sameBoot) {
    // Looked for before the attempt to connect: a shim that ends in between has written its record by then.
    const alive = findMarked(shimMarker(spec)).length > 0
    const timeoutMs = Math.max(100, deadline - clock.monotonicMs())
    const result = await connectShim(spec.socket, { timeoutMs, signal })
    if (result.kind === 'connected') {
      if (result.connection.hello.jobId === spec.jobId) return result
      result.connection.close()
    }
    if (!alive) break
    // A shim that was started a moment ago has no socket yet.
    if (clock.monotonicMs() >= deadline) return { kind: 'silent' }
    await clock.sleep(50, signal)
  }

  const state = readJobState(folder, spec.jobId)
  if (sameBoot) await endLeftovers(spec, state)
  rmSync(spec.socket, { force: true })
  const exit = readJobExit(folder, spec.jobId)
  if (exit) return { kind: 'ended', exit }
  return sameBoot ? { kind: 'lost', state } : { kind: 'rebooted', state }
}

const endLeftovers = async (spec: JobSpec, state: ShimState | undefined): Promise<void> => {
  const leader = state ? { pid: state.pid, starttime: state.starttime } : null
  const cgroup = state?.cgroup ?? null
  await stopTree(createTreeFinder({ marker: jobMarker(spec), leader, cgroup }), { rungs: LEFTOVER_RUNGS })
  if (cgroup !== null) removeJobCgroup(cgroup)
}
