import { chmodSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import type { createApp } from './app.ts'
import { serveUpgrades } from './upgrade.ts'

const MAX_CONNECTIONS = 128
const MAX_HEADERS = 100
const HEADERS_TIMEOUT_MS = 10_000
/** Long enough for an image that is uploaded to a process’s page over a slow line. */
const REQUEST_TIMEOUT_MS = 300_000

/**
 * Serves the API on a unix socket that only this user can open.
 * @throws AgentError already_running when somebody answers there, home_unusable
 */
export const serveOnSocket = async (
  app: ReturnType<typeof createApp>,
  path: string,
): Promise<{ close(): Promise<void> }> => {
  if (await somebodyAnswers(path))
    throw new AgentError('already_running', `another agentd listens on ${path}`)
  // What is left there is a dead agent's: nobody answers.
  rmSync(path, { force: true })
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  const upgrades = serveUpgrades(server, app.fetch)
  server.maxConnections = MAX_CONNECTIONS
  server.maxHeadersCount = MAX_HEADERS
  server.headersTimeout = HEADERS_TIMEOUT_MS
  server.requestTimeout = REQUEST_TIMEOUT_MS
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new AgentError('home_unusable', `cannot listen on ${path}: ${errorText(error)}`, { cause: error }),
      ),
    )
    server.listen(path, resolve)
  })
  chmodSync(path, 0o600)
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
        upgrades.closeAll()
      }),
  }
}

const somebodyAnswers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
