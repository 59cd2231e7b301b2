import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { AgentError, ERROR_CODES } from '../../shared/contract/errors.ts'
import type { ErrorBody } from '../../shared/contract/records.ts'
import type { Log } from '../platform/log.ts'
import { stateFailure } from '../platform/database.ts'
import { fileError } from '../platform/files.ts'

/** The one place where an error becomes an HTTP answer. What is not an AgentError is logged and told as `internal`. */
export const answerError =
  ({ log, stateFolder }: { readonly log: Log; readonly stateFolder: string }) =>
  (error: Error, c: Context): Response => {
    // The framework's own refusals (a body that is no JSON) are the client's to correct.
    const known =
      error instanceof HTTPException && error.status < 500
        ? refusalOf(error)
        : fileError(stateFailure(error, stateFolder), 'the box')
    if (known instanceof AgentError) {
      // A 401 names the scheme that would do (RFC 9110).
      if (known.code === 'unauthorized') c.header('www-authenticate', 'Bearer')
      return c.json(errorBody(known), statusOf(known))
    }
    log.error('a request failed unexpectedly', { path: c.req.path, error: error.stack ?? error.message })
    return c.json(errorBody(new AgentError('internal', `the agent failed: ${error.message}`)), 500)
  }

const refusalOf = (error: HTTPException): AgentError =>
  error.status === 415
    ? new AgentError('bad_request', 'the body is not said to be JSON', {
        hint: 'Send Content-Type: application/json.',
        cause: error,
      })
    : new AgentError('bad_request', error.message, { cause: error })

export const errorBody = (error: AgentError): ErrorBody => ({
  error: {
    code: error.code,
    message: error.message,
    hint: error.hint,
    ...(error.problems ? { problems: [...error.problems] } : {}),
  },
})

const statusOf = (error: AgentError): ContentfulStatusCode => ERROR_CODES[error.code].status
