import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { StoredPlan } from './planned-process.ts'
import type { ShimExit, ShimMessage, ShimSpec, ShimState } from './shim/records.ts'
import { exitFile, specFile, stateFile } from './shim/records.ts'

/*
 * The records of a job as the agent reads them: another version of the shim may have written them, or a crash may
 * have, so they are checked. What cannot be read counts as absent.
 */

const identity = { proto: z.number(), jobId: z.string() }

const State = z.object({
  ...identity,
  pid: z.number().int().positive(),
  starttime: z.string(),
  bootId: z.string(),
  shimPid: z.number().int(),
  shimStart: z.string(),
  startedAt: z.iso.datetime(),
  terminal: z.enum(['pty', 'none']),
  terminalProblem: z.string().nullable(),
  logStart: z.number(),
  cgroup: z.string().nullable().exactOptional(),
}) satisfies z.ZodType<ShimState>

const Exit = z.object({
  ...identity,
  exitCode: z.number().nullable(),
  signal: z.string().nullable(),
  endedAt: z.iso.datetime(),
  oom: z.boolean(),
  logEnd: z.number(),
}) satisfies z.ZodType<ShimExit>

/** What the agent itself adds to the shim's spec.json: enough to go on with the process after a restart. */
export const JobSpec = z.object({
  ...identity,
  nonce: z.string(),
  bootId: z.string(),
  argv: z.array(z.string()),
  input: z.enum(['terminal', 'none']).exactOptional(),
  cwd: z.string(),
  user: z.object({ uid: z.number(), gid: z.number() }).nullable(),
  socket: z.string(),
  logLimits: z.object({ fileBytes: z.number(), totalBytes: z.number() }),
  plan: StoredPlan,
  createdAt: z.iso.datetime(),
  /** When it was first begun with this specification, or begun on request: what is older is not its work. */
  since: z.iso.datetime().exactOptional(),
}) satisfies z.ZodType<ShimSpec>
export type JobSpec = z.infer<typeof JobSpec>

const Message = z.discriminatedUnion('type', [
  State.extend({ type: z.literal('hello'), environment: z.record(z.string(), z.string()) }),
  Exit.extend({ type: z.literal('exited') }),
  z.object({ type: z.literal('output'), offset: z.number(), data: z.string() }),
  z.object({ type: z.literal('refused'), message: z.string() }),
]) satisfies z.ZodType<ShimMessage>

export const readJobSpec = (folder: string): JobSpec | undefined => readRecord(specFile(folder), JobSpec)

/** The state of exactly this job, where the shim has written it. */
export const readJobState = (folder: string, jobId: string): ShimState | undefined =>
  ofJob(readRecord(stateFile(folder), State), jobId)

/** How exactly this job ended, where the shim has written it. */
export const readJobExit = (folder: string, jobId: string): ShimExit | undefined =>
  ofJob(readRecord(exitFile(folder), Exit), jobId)

/** A line from a shim; undefined for a message that this version does not know. */
export const parseShimMessage = (line: string): ShimMessage | undefined => {
  try {
    return Message.parse(JSON.parse(line))
  } catch {
    return undefined
  }
}

const readRecord = <T extends z.ZodType>(path: string, schema: T): z.infer<T> | undefined => {
  try {
    return schema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return undefined
  }
}

const ofJob = <T extends { readonly jobId: string }>(record: T | undefined, jobId: string): T | undefined =>
  record?.jobId === jobId ? record : undefined
