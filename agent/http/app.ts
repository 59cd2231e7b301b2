import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import { answerError, errorBody } from './boundary.ts'
import type { Box } from './box.ts'
import { createConnections } from './connections.ts'
import { createFailureLimit } from './failure-limit.ts'
import { auditChanges, checkRequest, requireToken } from './gate.ts'
import type { GateEnv } from './gate.ts'
import { limitBody } from './request-body.ts'
import { auditRoutes } from './routes/audit.ts'
import { budgetRoutes } from './routes/budget.ts'
import { eventRoutes } from './routes/events.ts'
import { modelRoutes } from './routes/models.ts'
import { processRoutes } from './routes/processes.ts'
import { pythonRoutes } from './routes/python.ts'
import { runRoutes } from './routes/runs.ts'
import { secretRoutes } from './routes/secrets.ts'
import { statusRoutes } from './routes/status.ts'
import { syncRoutes } from './routes/sync.ts'
import { terminalRoutes } from './routes/terminal.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { isWebPath, webRoutes } from './routes/web.ts'
import { workflowRoutes } from './routes/workflows.ts'
import { limitStreams } from './stream-limit.ts'

/** The whole HTTP API. `/healthz` and the API's description are open; everything under /v1 needs a token. */
export const createApp = (
  box: Box,
  deps: { readonly log: Log; readonly clock: Clock; readonly stateFolder: string },
) => {
  const { log, clock } = deps
  const connections = createConnections()
  const app = new OpenAPIHono<GateEnv>()
  app.onError(answerError(deps))
  app.notFound((c) => {
    const error = new AgentError('not_found', `there is no ${c.req.method} ${c.req.path}`)
    // Answered, not thrown: of an error the framework would not see that only the method is wrong.
    return c.json(errorBody(error), 404)
  })
  app.use(methodNotAllowed({ app, onMethodNotAllowed: refuseMethod }))
  app.use(async (c, next) => {
    // Not on the Response: who sends a file writes to the connection itself.
    c.env.outgoing?.setHeader('x-agent-version', box.version)
    await next()
  })
  app.use(checkRequest)
  app.get('/healthz', (c) => c.json({ status: 'ok', version: box.version }, 200))
  app.use('/v1/*', auditChanges(box.journal.append))
  app.use(
    '/v1/*',
    requireToken({ tokens: box.tokens, failures: createFailureLimit(clock), connections, log }),
  )
  app.use('/v1/*', limitStreams())
  // The page of a process may take what it likes; it is passed on as it comes.
  app.use('/v1/*', limitBody(isWebPath))
  app.openAPIRegistry.registerComponent('securitySchemes', 'token', { type: 'http', scheme: 'bearer' })
  app.doc31('/v1/openapi.json', {
    openapi: '3.1.0',
    security: [{ token: [] }],
    info: { title: 'gpu-agent', version: box.version, description: 'The API of agentd.' },
  })
  return app
    .route('/v1', statusRoutes(box))
    .route('/v1', runRoutes(box))
    .route('/v1', modelRoutes(box))
    .route('/v1', processRoutes(box))
    .route('/v1', syncRoutes(box, log))
    .route('/v1', pythonRoutes(box))
    .route('/v1', auditRoutes(box))
    .route('/v1', budgetRoutes(box))
    .route('/v1', eventRoutes(box))
    .route('/v1', tokenRoutes(box, connections))
    .route('/v1', secretRoutes(box))
    .route('/v1', workflowRoutes(box))
    .route('/v1', terminalRoutes(box))
    .route('/v1', webRoutes(box))
}

const refuseMethod = (c: Context, methods: readonly string[]): Response => {
  const allowed = methods.join(', ')
  const error = new AgentError('method_not_allowed', `${c.req.path} does not take ${c.req.method}`, {
    hint: `It takes ${allowed}.`,
  })
  return c.json(errorBody(error), 405, { allow: allowed })
}

/** The API's type, for the client: hc<App>. */
export type App = ReturnType<typeof createApp>
