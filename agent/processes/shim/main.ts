import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { readBootId } from '../../platform/boot-id.ts'
import { atomicWrite, errorText } from '../../platform/files.ts'
import { removeJobCgroup, startInCgroup } from '../job-cgroup.ts'
import { createTreeFinder, readStarttime } from '../process-tree.ts'
import type { Rung } from '../stop-tree.ts'
import { LEFTOVER_RUNGS, sendSignal, stopLadder, stopTree } from '../stop-tree.ts'
import { createLogWriter } from './log-writer.ts'
import { readOomKills } from './oom.ts'
import type { ShimMessage, ShimRequest, ShimSpec, ShimState } from './records.ts'
import { SHIM_PROTOCOL, exitFile, jobMarker, specFile, stateFile } from './records.ts'
import { createDoor } from './socket.ts'
import type { TerminalEvents } from './terminal.ts'
import { openTerminal } from './terminal.ts'

/*
 * The shim: one small program for each job, started by the agent and outliving it. It holds the job's terminal, writes
 * the log, answers on a private socket, and records how the job ended. When it dies the job loses its terminal, so it
 * depends on node-pty and on nothing else, and touches no network.
 *
 *   node shim.cjs JOB-FOLDER < environment as JSON
 */
const run = async (folder: string): Promise<void> => {
  // Written by the agent that starts this very file a moment before, so its shape is trusted.
  const spec = JSON.parse(readFileSync(specFile(folder), 'utf8')) as ShimSpec
  const environment = JSON.parse(readFileSync(0, 'utf8')) as Record<string, string>
  const log = createLogWriter(folder, spec.logLimits)
  const logStart = log.end()
  const oomKills = readOomKills()
  const job: { state?: ShimState } = {}
  let stopping: Promise<boolean> | undefined
  let ended = false
  const opened = Promise.withResolvers<undefined>()

  const tree = (): ReturnType<typeof createTreeFinder> =>
    createTreeFinder({
      marker: jobMarker(spec),
      leader: job.state ?? null,
      cgroup: job.state?.cgroup ?? null,
    })
  const stop = (first: Rung): void => {
    stopping ??= stopTree(tree(), { rungs: stopLadder(first), hurry: () => ended })
  }

  const door = createDoor({
    folder,
    hello: (): ShimMessage => ({ type: 'hello', environment, ...started(job.state) }),
    onRequest: (request, answer) => {
      if (request.type === 'stop') stop({ signal: request.signal, waitMs: request.timeoutMs })
      else if (terminal.kind === 'none')
        answer({ type: 'refused', message: `no terminal: ${terminal.problem ?? 'unknown'}` })
      else forward(request)
    },
  })
  const forward = (request: ShimRequest): void => {
    if (request.type === 'input') terminal.write(Buffer.from(request.data, 'base64'))
    if (request.type === 'resize') terminal.resize(request.columns, request.rows)
  }

  const finish = async (exitCode: number | null, signal: string | null): Promise<void> => {
    ended = true
    // A program that ends at once may do so before the door is open.
    await opened.promise
    log.close()
    const exit = {
      proto: SHIM_PROTOCOL,
      jobId: spec.jobId,
      exitCode,
      signal,
      endedAt: new Date().toISOString(),
      oom: exitCode !== 0 && readOomKills() > oomKills,
      logEnd: log.end(),
    }
    await writeOnceThereIsRoom(() => atomicWrite(exitFile(folder), JSON.stringify(exit), { mode: 0o600 }))
    // What the process left behind would hold its port and its GPU memory: it ends with it, as under systemd.
    await (stopping ?? stopTree(tree(), { rungs: LEFTOVER_RUNGS }))
    if (job.state?.cgroup) removeJobCgroup(job.state.cgroup)
    door.end({ type: 'exited', ...exit })
    rmSync(spec.socket, { force: true })
    process.exitCode = 0
    // A reader that never reads must not keep the shim alive.
    setTimeout(() => process.exit(0), 2_000).unref()
  }

  const events: TerminalEvents = {
    onOutput: (bytes) => {
      log.write(bytes)
      door.wake()
    },
    onExit: (exitCode, signal) => {
      finish(exitCode, signal).catch(fail)
    },
  }
  const { started: terminal, cgroup } = await startInCgroup(spec.jobId, () =>
    openTerminal({ spec, environment, events }),
  )
  sacrificeBeforeTheAgent(terminal.pid)
  job.state = {
    proto: SHIM_PROTOCOL,
    jobId: spec.jobId,
    pid: terminal.pid,
    starttime: readStarttime(terminal.pid) ?? '0',
    bootId: readBootId(),
    shimPid: process.pid,
    shimStart: readStarttime(process.pid) ?? '0',
    startedAt: new Date().toISOString(),
    terminal: terminal.kind,
    terminalProblem: terminal.problem,
    logStart,
    cgroup,
  }
  atomicWrite(stateFile(folder), JSON.stringify(job.state), { mode: 0o600 })
  await door.listen(spec.socket)
  opened.resolve(undefined)

  // The host goes down: the job is asked to end at once, and its end is recorded as soon as it comes.
  process.on('SIGTERM', () => {
    for (const member of tree().find()) sendSignal(member.pid, 'SIGINT')
  })
}

const ROOM_WITHIN_MS = 60_000
const ROOM_EVERY_MS = 500

/** How a job ended is worth waiting for: without the record it counts as lost. */
const writeOnceThereIsRoom = async (write: () => void): Promise<void> => {
  for (let waitedMs = 0; ; waitedMs += ROOM_EVERY_MS) {
    try {
      write()
      return
    } catch (error) {
      // Whoever is connected is told all the same.
      if (waitedMs >= ROOM_WITHIN_MS) {
        process.stderr.write(`the end of the job was not recorded: ${errorText(error)}\n`)
        return
      }
      await new Promise((resolve) => setTimeout(resolve, ROOM_EVERY_MS))
    }
  }
}

const started = (state: ShimState | undefined): ShimState => {
  if (state === undefined) throw new Error('the job has not started yet')
  return state
}

/** The kernel, out of memory, is to choose the job before the agent and the shim. Raising is always allowed. */
const sacrificeBeforeTheAgent = (pid: number): void => {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, '300')
  } catch {
    // It ended already, or runs as another user.
  }
}

const fail = (error: unknown): never => {
  process.stderr.write(`${new Date().toISOString()} ${errorText(error)}\n`)
  process.exit(1)
}

for (const signal of ['SIGINT', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => undefined)
process.stderr.on('error', () => undefined)
run(process.argv[2] ?? '').catch(fail)
