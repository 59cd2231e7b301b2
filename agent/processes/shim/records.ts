import { join } from 'node:path'

/*
 * What the agent and a shim say to each other: three files in the job's folder, and lines of JSON on a socket.
 * A shim may be older or newer than the agent that finds it again, so every record carries the protocol's number;
 * fields are only ever added, and an unknown message is ignored.
 *
 * Each file names the job it belongs to. A folder serves one process over all its jobs, one after another, so a file
 * that names another job counts as absent: nothing has to be deleted, and no crash can leave a wrong pair behind.
 */
export const SHIM_PROTOCOL = 1

export type JobExit = {
  readonly exitCode: number | null
  /** `SIGKILL` and the like, when a signal ended it. */
  readonly signal: string | null
  /** ISO 8601. */
  readonly endedAt: string
  /** True when it ended badly and the kernel killed for memory in its cgroup while it ran: it, or one of its children. */
  readonly oom: boolean
}

/** spec.json, written by the agent before the shim is started. The environment travels on its standard input instead. */
export type ShimSpec = {
  readonly proto: number
  readonly jobId: string
  /** Unguessable: with the id it is the marker that every process of the job carries in its environment. */
  readonly nonce: string
  readonly bootId: string
  readonly argv: readonly string[]
  /** What its standard input is; absent in the specification of an older agent: the terminal. */
  readonly input?: JobInput
  readonly cwd: string
  readonly user: { readonly uid: number; readonly gid: number } | null
  readonly socket: string
  readonly logLimits: LogLimits
}

/** `none`: it reads the end of its input at once, as from /dev/null; its output still goes to a terminal. */
export type JobInput = 'terminal' | 'none'

/** Size of one log file, and of all that are kept. */
export type LogLimits = { readonly fileBytes: number; readonly totalBytes: number }

/** state.json, written by the shim as soon as the process runs. */
export type ShimState = {
  readonly proto: number
  readonly jobId: string
  readonly pid: number
  /** Field 22 of /proc/<pid>/stat: with the pid it names one process, however often the number is used again. */
  readonly starttime: string
  readonly bootId: string
  readonly shimPid: number
  readonly shimStart: string
  readonly startedAt: string
  readonly terminal: 'pty' | 'none'
  /** Why there is no terminal. */
  readonly terminalProblem: string | null
  /** Where this job's output begins in the log of the process. */
  readonly logStart: number
  /** The folder of its own cgroup; null where none could be made, absent in the state of an older shim. */
  readonly cgroup?: string | null
}

/** exit.json, written by the shim when the process has ended and its last output is in the log. */
export type ShimExit = JobExit & { readonly proto: number; readonly jobId: string; readonly logEnd: number }

/** Lines from the shim. `environment` is what the job was started with: kept in memory only, never on disk. */
export type ShimMessage =
  | ({ readonly type: 'hello'; readonly environment: Readonly<Record<string, string>> } & ShimState)
  | { readonly type: 'output'; readonly offset: number; readonly data: string }
  | ({ readonly type: 'exited' } & ShimExit)
  | { readonly type: 'refused'; readonly message: string }

/** Lines to the shim; `data` is base64. */
export type ShimRequest =
  | { readonly type: 'attach'; readonly fromOffset: number }
  | { readonly type: 'input'; readonly data: string }
  | { readonly type: 'resize'; readonly columns: number; readonly rows: number }
  | { readonly type: 'stop'; readonly signal: NodeJS.Signals; readonly timeoutMs: number }

export const specFile = (folder: string): string => join(folder, 'spec.json')
export const stateFile = (folder: string): string => join(folder, 'state.json')
export const exitFile = (folder: string): string => join(folder, 'exit.json')

/** The environment variable by which every process of a job is found again, wherever it forked to. */
export const jobMarker = (job: { readonly jobId: string; readonly nonce: string }): string =>
  `AGENTD_JOB=${job.jobId}:${job.nonce}`

/** The shim's own marker: it must be found, but never be killed together with its job. */
export const shimMarker = (job: { readonly jobId: string; readonly nonce: string }): string =>
  `AGENTD_SHIM=${job.jobId}:${job.nonce}`
