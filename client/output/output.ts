import type { Problem } from '../../shared/contract/errors.ts'
import type { AgentError } from '../../shared/contract/errors.ts'
import { errorBody } from '../exit.ts'
import { problemLines } from './problems.ts'
import type { ProgressView } from './progress.ts'
import { createProgress } from './progress.ts'
import type { OutputStream } from './stream.ts'
import type { Line } from './table.ts'
import { tableLines } from './table.ts'
import type { Text } from './text.ts'
import { paint, red, yellow } from './text.ts'

/** The only writer to standard output and standard error. Results go to the one, everything else to the other. */
export type Output = {
  readonly json: boolean
  /** True when standard output is a terminal. */
  readonly isTerminal: boolean
  /** One line of the result for people; nothing with --json. */
  line(...parts: readonly Text[]): void
  lines(lines: readonly Line[]): void
  table(head: readonly string[], rows: readonly (readonly Text[])[]): void
  /** The result with --json: one document, or one object a line in the following forms. */
  document(value: unknown): void
  /** Bytes or text of the box as they are: `logs --raw`, and scripts of our own. Resolves when there is room again. */
  raw(data: string | Uint8Array): Promise<void>
  /** Clears the screen and goes to its top, on a terminal only. */
  clear(): void
  /** A line of diagnostics on standard error. */
  note(...parts: readonly Text[]): void
  problems(problems: readonly Problem[]): void
  /** An error: its problems, then `error:` and `try:`; with --json one document on standard output. */
  error(error: AgentError): void
  /** Progress on standard error; close it before other output. */
  progress(): ProgressView
}

type OutputDeps = {
  readonly stdout: OutputStream
  readonly stderr: OutputStream
  readonly json: boolean
  /** false: --no-color or NO_COLOR; true: colours wherever the stream is a terminal. */
  readonly colour: boolean
}

export const createOutput = ({ stdout, stderr, json, colour }: OutputDeps): Output => {
  const outColour = colour && stdout.isTTY === true
  const errColour = colour && stderr.isTTY === true
  const write = (stream: OutputStream, parts: Line, painted: boolean): void => {
    stream.write(`${parts.map((part) => paint(part, painted)).join('')}\n`)
  }
  const line = (...parts: readonly Text[]): void => {
    if (!json) write(stdout, parts, outColour)
  }
  const note = (...parts: readonly Text[]): void => write(stderr, parts, errColour)
  const lines = (all: readonly Line[]): void => all.forEach((one) => line(...one))
  const problems = (all: readonly Problem[]): void => problemLines(all).forEach((one) => note(...one))
  const document = (value: unknown): void => {
    stdout.write(`${JSON.stringify(value)}\n`)
  }

  return {
    json,
    isTerminal: stdout.isTTY === true,
    line,
    lines,
    table: (head, rows) => lines(tableLines(head, rows)),
    document,
    raw: (data) =>
      new Promise((resolve) => {
        if (stdout.write(data)) resolve()
        else stdout.once('drain', resolve)
      }),
    clear: () => {
      if (stdout.isTTY === true && !json) stdout.write('\u001b[H\u001b[2J')
    },
    note,
    problems,
    error: (error) => {
      if (json) {
        document(errorBody(error))
        return
      }
      problems(isTheProblem(error) ? [] : (error.problems ?? []))
      note(red('error:'), ` ${error.message}`)
      note(yellow('try:'), ` ${error.hint}`)
    },
    progress: () => createProgress({ stream: stderr, colour: errColour }),
  }
}

/** What fails for one reason says it in its own two lines. */
const isTheProblem = ({ message, problems = [] }: AgentError): boolean =>
  problems.length === 1 && problems[0] !== undefined && message.endsWith(problems[0].message)
