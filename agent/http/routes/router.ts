import { createRoute, OpenAPIHono } from '@hono/zod-openapi'
import type { RouteConfig } from '@hono/zod-openapi'
import type { ZodType } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { ErrorBody } from '../../../shared/contract/records.ts'
import type { Scope } from '../../../shared/contract/states.ts'
import { requireScope } from '../gate.ts'
import type { GateEnv } from '../gate.ts'

/** An empty router whose validation failures are AgentErrors like every other. */
export const createRouter = () =>
  new OpenAPIHono<GateEnv>({
    defaultHook: (result) => {
      if (result.success) return
      const [issue] = result.error.issues
      throw new AgentError(
        'bad_request',
        `${issue?.path.join('.') || 'the request'}: ${issue?.message ?? 'is not valid'}`,
      )
    },
  })

/** The description of a JSON answer, for createRoute. */
export const json = <T extends ZodType>(schema: T, description: string) => ({
  content: { 'application/json': { schema } },
  description,
})

/** A JSON request body, for createRoute. */
export const jsonBody = <T extends ZodType>(schema: T) => ({
  required: true,
  content: { 'application/json': { schema } },
})

/**
 * A route that needs a token of the given scope. The error body is described for OpenAPI here, at run time only:
 * handlers answer success and throw failures, so the client's types know success alone.
 */
export const route = <const R extends RouteConfig>(scope: Scope, config: R) => {
  const responses = { ...config.responses, default: json(ErrorBody, 'What failed, and what to do next') }
  return createRoute({ ...config, middleware: requireScope(scope), responses: responses })
}
