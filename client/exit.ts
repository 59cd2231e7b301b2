import type { ErrorCode, Problem } from '../shared/contract/errors.ts'
import { AgentError, ERROR_CODES, EXIT } from '../shared/contract/errors.ts'

/** The exit status of a failed command. The user's own Ctrl-C is 130; an agent that stops is a failure. */
export const exitStatusOf = (error: AgentError, interrupted: boolean): number =>
  interrupted && error.code === 'interrupted' ? EXIT.interrupted : ERROR_CODES[error.code].exit

/** Any thrown value as the error that is shown; what was not foreseen is a defect and says so. */
export const asAgentError = (error: unknown): AgentError => {
  if (error instanceof AgentError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new AgentError(fileCode(error), message, { cause: error })
}

const FILE_CODES: Readonly<Partial<Record<string, ErrorCode>>> = {
  ENOSPC: 'disk_full',
  EDQUOT: 'disk_full',
  EROFS: 'read_only',
  EACCES: 'io_error',
  EPERM: 'io_error',
  ENOENT: 'io_error',
  ENOTDIR: 'io_error',
  EISDIR: 'io_error',
  EIO: 'io_error',
  EMFILE: 'io_error',
}

const fileCode = (error: unknown): ErrorCode => FILE_CODES[errnoOf(error) ?? ''] ?? 'internal'

/** `ENOENT` and the like, where the error has one. */
export const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined

/** The error as `--json` prints it. */
export const errorBody = (
  error: AgentError,
): { error: { code: ErrorCode; message: string; hint: string; problems?: readonly Problem[] } } => ({
  error: {
    code: error.code,
    message: error.message,
    hint: error.hint,
    ...(error.problems === undefined ? {} : { problems: error.problems }),
  },
})

/** The table of exit statuses, as help and docs/agentctl.md print it. */
export const EXIT_TABLE: readonly (readonly [number, string])[] = [
  [EXIT.done, 'done'],
  [EXIT.failed, 'the operation failed on the box'],
  [EXIT.usage, 'the command line is wrong'],
  [EXIT.refused, 'refused before anything was done: invalid manifest, or a plan with errors'],
  [EXIT.notAuthenticated, 'not authenticated, or the token lacks the scope'],
  [EXIT.unreachable, 'the box cannot be reached'],
  [EXIT.notFound, 'no such thing'],
  [EXIT.deadline, 'the deadline passed'],
  [EXIT.busy, 'busy: another run or install holds the lock'],
  [EXIT.interrupted, 'interrupted'],
]
