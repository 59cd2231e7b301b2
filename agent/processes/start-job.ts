import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { readBootId } from '../platform/boot-id.ts'
import type { Clock } from '../platform/clock.ts'
import { atomicWrite, errnoOf, errorText } from '../platform/files.ts'
import { findAccount } from './account.ts'
import type { JobSpec } from './job-records.ts'
import { readJobExit, readJobSpec } from './job-records.ts'
import { chooseFlags } from './kinds/flags.ts'
import { locateProgram } from './locate-program.ts'
import type { PlannedProcess } from './planned-process.ts'
import { createTreeFinder, findMarked } from './process-tree.ts'
import type { ShimConnection } from './shim-connection.ts'
import { connectShim } from './shim-connection.ts'
import { SHIM_PROTOCOL, jobMarker, shimMarker, specFile } from './shim/records.ts'
import { LEFTOVER_RUNGS, sendSignal, stopTree } from './stop-tree.ts'

/** A shim mostly waits: without a compiler it is 3 MB smaller. Sources need one, to be read as JavaScript at all. */
const RELEASED_FLAGS = ['--jitless']
const LOG_LIMITS = { fileBytes: 8 * 2 ** 20, totalBytes: 128 * 2 ** 20 }
const START_WITHIN_MS = 20_000
/** sun_path holds 108 bytes with the closing zero. */
const SOCKET_PATH_BYTES = 107

export type StartedJob =
  | { readonly kind: 'connected'; readonly jobId: string; readonly connection: ShimConnection }
  /** It ended before anybody could greet it; exit.json says how. */
  | { readonly kind: 'ended'; readonly jobId: string }

export type StartContext = {
  readonly folder: string
  readonly runFolder: string
  /** The shim's program file. */
  readonly shimFile: string
  readonly clock: Clock
  readonly signal: AbortSignal
  /** It is begun on request: what an earlier job of the same specification made does not count as its work. */
  readonly fresh: boolean
}

/**
 * Starts one job: its specification on disk first, then the shim, then the greeting over its socket. A crash in
 * between leaves either no process, or one that is found by its marker.
 *
 * The shim has read its whole program before it answers, so an upgrade that replaces the file does not touch a running
 * one; what differs between versions afterwards is the protocol alone, which carries its number.
 * @throws AgentError spawn_failed, program_missing, working_dir_missing, home_unusable, and what its flags are refused for
 */
export const startJob = async (plan: PlannedProcess, context: StartContext): Promise<StartedJob> => {
  const { environment: variables, ...stored } = plan
  const account = findAccount(plan.spec.user)
  const job = { jobId: randomBytes(4).toString('hex'), nonce: randomBytes(16).toString('hex') }
  const socket = join(context.runFolder, `${job.jobId}.sock`)
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES)
    throw new AgentError('home_unusable', `${socket} is too long for a socket (${SOCKET_PATH_BYTES} bytes)`)
  const [name, value] = splitVariable(jobMarker(job))
  const environment = { ...account.environment, ...variables, [name]: value }
  const argv = [locateProgram({ ...plan, environment }), ...plan.argv.slice(1)]
  const flags = plan.flags
    ? await chooseFlags(plan.flags, { ...plan, environment, user: account.user, signal: context.signal })
    : []
  const createdAt = context.clock.now().toISOString()
  const earlier = context.fresh ? undefined : readJobSpec(context.folder)
  const spec: JobSpec = {
    proto: SHIM_PROTOCOL,
    ...job,
    bootId: readBootId(),
    argv: [...argv, ...flags],
    input: plan.input,
    cwd: plan.cwd,
    user: account.user,
    socket,
    logLimits: LOG_LIMITS,
    plan: stored,
    createdAt,
    since: earlier?.plan.digest === plan.digest ? (earlier.since ?? earlier.createdAt) : createdAt,
  }
  // A list of an earlier attempt must not pass for this one's.
  if (plan.outputs?.kind === 'entries') rmSync(plan.outputs.path, { force: true })
  mkdirSync(context.folder, { recursive: true, mode: 0o700 })
  atomicWrite(specFile(context.folder), JSON.stringify(spec), { mode: 0o600 })
  const shim = spawnShim(context, { marker: shimMarker(job), environment })
  const connection = await greet(socket, shim, context)
  if (connection) return { kind: 'connected', jobId: job.jobId, connection }
  if (readJobExit(context.folder, job.jobId)) return { kind: 'ended', jobId: job.jobId }
  await endUnanswering(job)
  throw new AgentError('spawn_failed', `cannot start ${plan.name}: ${shim.problem()}`)
}

/** A shim that does not answer in time must not go on with a job that counts as failed. */
const endUnanswering = async (job: { readonly jobId: string; readonly nonce: string }): Promise<void> => {
  for (const shim of findMarked(shimMarker(job))) sendSignal(shim.pid, 'SIGKILL')
  await stopTree(createTreeFinder({ marker: jobMarker(job), leader: null, cgroup: null }), {
    rungs: LEFTOVER_RUNGS,
  })
}

type Shim = { readonly gone: () => boolean; readonly problem: () => string }

/** The environment goes through standard input: on the disk or in argv others could read the secrets in it. */
const spawnShim = (
  context: StartContext,
  job: { readonly marker: string; readonly environment: Readonly<Record<string, string>> },
): Shim => {
  const diary = join(context.folder, 'shim.log')
  const log = openSync(diary, 'w', 0o600)
  const [name, value] = splitVariable(job.marker)
  try {
    const flags = context.shimFile.endsWith('.cjs') ? RELEASED_FLAGS : []
    const child = spawn(process.execPath, [...flags, context.shimFile, context.folder], {
      cwd: '/',
      detached: true,
      env: { [name]: value },
      stdio: ['pipe', log, log],
    })
    let failure: string | undefined
    child.once('error', (error) => (failure = error.message))
    // The shim may die before it has read everything; its diary says why.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(JSON.stringify(job.environment))
    child.unref()
    return {
      gone: () => failure !== undefined || child.exitCode !== null || child.signalCode !== null,
      problem: () => failure ?? (readTail(diary) || 'the shim did not answer'),
    }
  } finally {
    closeSync(log)
  }
}

const greet = async (
  socket: string,
  shim: Shim,
  { clock, signal }: StartContext,
): Promise<ShimConnection | undefined> => {
  const deadline = clock.monotonicMs() + START_WITHIN_MS
  while (clock.monotonicMs() < deadline) {
    const gone = shim.gone()
    const result = await connectShim(socket, { timeoutMs: START_WITHIN_MS, signal })
    if (result.kind === 'connected') return result.connection
    if (gone) return undefined
    await clock.sleep(25, signal)
  }
  return undefined
}

const splitVariable = (text: string): readonly [string, string] => {
  const at = text.indexOf('=')
  return [text.slice(0, at), text.slice(at + 1)]
}

const readTail = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim().slice(-500)
  } catch (error) {
    return errnoOf(error) ?? errorText(error)
  }
}
