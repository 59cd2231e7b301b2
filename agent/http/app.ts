import { OpenAPIHono } from '@hono/zod-openapi'
import { bodyLimit } from 'hono/body-limit'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Log } from '../platform/log.ts'
import { answerError } from './boundary.ts'
import type { Box } from './box.ts'
import { refuseBrowsers, requireToken } from './gate.ts'
import type { GateVariables } from './gate.ts'
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

/** The largest request: a manifest of 4 MiB in a JSON string. */
const MAX_BODY_BYTES = 5 * 2 ** 20

/** The whole HTTP API. `/healthz` and the API's description are open; everything under /v1 needs a token. */
export const createApp = (box: Box, log: Log) => {
  const app = new OpenAPIHono<{ Variables: GateVariables }>()
  app.onError(answerError(log))
  app.notFound((c) => {
    throw new AgentError('not_found', `there is no ${c.req.method} ${c.req.path}`)
  })
  app.use(async (c, next) => {
    await next()
    c.header('x-agent-version', box.version)
  })
  app.use(refuseBrowsers)
  const limitBody = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new AgentError('bad_request', `the body is larger than ${MAX_BODY_BYTES} bytes`)
    },
  })
  app.use((c, next) => (isWebPath(c.req.path) ? next() : limitBody(c, next)))
  app.get('/healthz', (c) => c.json({ status: 'ok', version: box.version }, 200))
  app.use('/v1/*', requireToken(box.tokens))
  app.doc31('/v1/openapi.json', {
    openapi: '3.1.0',
    info: { title: 'gpu-agent', version: box.version, description: 'The API of agentd.' },
  })
  return app
    .route('/v1', statusRoutes(box))
    .route('/v1', runRoutes(box))
    .route('/v1', modelRoutes(box))
    .route('/v1', processRoutes(box))
    .route('/v1', syncRoutes(box))
    .route('/v1', pythonRoutes(box))
    .route('/v1', auditRoutes(box))
    .route('/v1', budgetRoutes(box))
    .route('/v1', eventRoutes(box))
    .route('/v1', tokenRoutes(box))
    .route('/v1', secretRoutes(box))
    .route('/v1', workflowRoutes(box))
    .route('/v1', terminalRoutes(box))
    .route('/v1', webRoutes(box))
}

/** The API's type, for the client: hc<App>. */
export type App = ReturnType<typeof createApp>
