import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, ERROR_CODES } from '../../shared/contract/errors.ts'
import { readTail } from './output-log.ts'
import type { ShimExit } from './shim/records.ts'
import { stripOutput } from './strip-output.ts'

type Ending = {
  readonly name: string
  readonly folder: string
  /** undefined: its shim is gone and nothing says how it ended. */
  readonly exit: ShimExit | undefined
  /** Where in the output of the process this job begins. */
  readonly logStart: number
}

type ProcessCode =
  | 'process_failed'
  | 'process_not_ready'
  | 'process_lost'
  | 'process_stalled'
  | 'cuda_fault'
  | 'outputs_missing'
  | 'variants_failed'
  | 'crash_looping'
  | 'terminal_unavailable'

/** A problem of a process, with the hint of its code. */
export const processProblem = (
  code: ProcessCode,
  options: {
    readonly name: string
    readonly message: string
    readonly severity?: Problem['severity']
    /** What to do where the hint of the code would mislead. */
    readonly hint?: string
  },
): Problem => ({
  code,
  severity: options.severity ?? 'error',
  subject: options.name,
  message: options.message,
  hint: options.hint ?? ERROR_CODES[code].hint.replace('PROCESS', options.name),
})

/** The end of what this job printed: an earlier one's last words would tell the wrong cause. */
const EXCERPT = { lines: 20, maxBytes: 4_096 }

/** A job that ended by itself and not well, with the end of its output: that is where the cause stands. */
export const endProblem = (
  { name, folder, exit, logStart }: Ending,
  severity: Problem['severity'],
): Problem => {
  const output = lastLines(folder, { ...EXCERPT, from: logStart })
  return exit
    ? processProblem('process_failed', {
        name,
        severity,
        message: `${name} ended with ${describeExit(exit)}${output}`,
      })
    : processProblem('process_lost', {
        name,
        severity,
        message: `the shim of ${name} is gone, and what lived of its processes was ended${output}`,
      })
}

/** A process that ended again and again, with the last 200 lines of what all its jobs printed. */
export const crashProblem = ({ name, folder, exit }: Ending, exits: number): Problem =>
  processProblem('crash_looping', {
    name,
    message:
      `${name} ended ${exits} times within ten minutes, the last time with ${exit ? describeExit(exit) : 'its shim'}` +
      lastLines(folder, { lines: 200, maxBytes: 16_384, from: 0 }),
  })

/** A job that failed by the agent's own judgement, with the end of its output. */
export const judgedProblem = (
  problem: Problem,
  { folder, logStart }: Pick<Ending, 'folder' | 'logStart'>,
): Problem => ({
  ...problem,
  message: `${problem.message}${lastLines(folder, { ...EXCERPT, from: logStart })}`,
})

/** A process whose shim lives and says nothing. */
export const silentProblem = (name: string): Problem =>
  processProblem('process_not_ready', { name, message: `the shim of ${name} does not answer` })

/** A process that runs without a terminal. */
export const terminalProblem = (name: string, cause: string | null): Problem =>
  processProblem('terminal_unavailable', {
    name,
    message: `${name} has no terminal, only a log: ${cause ?? 'unknown cause'}`,
    severity: 'warning',
  })

/** The environment of a process is never on disk: until it is planned again, or adopted alive, it cannot be started. */
export const unplanned = (name: string): AgentError =>
  new AgentError(
    'process_unplanned',
    `${name} cannot be started: agentd was restarted, and its environment is not known until the manifest is applied`,
  )

/** `status 3`, `SIGKILL, because memory ran out`. */
const describeExit = (exit: ShimExit): string =>
  (exit.signal ?? `status ${exit.exitCode ?? 'unknown'}`) +
  // With another end than SIGKILL it was a child of the job that the kernel chose.
  (exit.oom ? (exit.signal === 'SIGKILL' ? ', because memory ran out' : ', after memory ran out') : '')

const lastLines = (folder: string, options: { lines: number; maxBytes: number; from: number }): string => {
  const text = stripOutput(readTail(folder, options).toString('utf8')).trimEnd()
  return text === '' ? '' : `\n${text}`
}
