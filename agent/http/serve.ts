import { chmodSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import type { Server, ServerOptions, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import type { createApp } from './app.ts'
import type { TlsIdentity } from './tls-identity.ts'
import { serveUpgrades } from './upgrade.ts'

/** Where to listen: a socket that only this user can open, or a port that speaks TLS. */
export type Listener =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tls'; readonly host: string; readonly port: number; readonly identity: TlsIdentity }

const MAX_CONNECTIONS = 128
const MAX_HEADERS = 100
/** Of one address, on a port: a single source must not take all there are. */
const MAX_OF_ONE_SOURCE = 64
const HANDSHAKE_TIMEOUT_MS = 10_000
/** Long enough for an image that is uploaded to a process’s page over a slow line. */
const REQUEST_TIMEOUT_MS = 300_000
/** Milliseconds; others only in tests. */
const LIMITS = {
  /** For the head of a request. */
  headersMs: 10_000,
  /** A reader that takes nothing of what waits for it is let go after this long; it comes back and goes on. */
  stalledMs: 30_000,
}
type Limits = typeof LIMITS

/**
 * Serves the API at one place. Every place has a server of its own, so that a flood at a port leaves the socket free.
 * @throws AgentError already_running when somebody answers at the socket; home_unusable, port_in_use
 */
export const serve = async (
  app: Pick<ReturnType<typeof createApp>, 'fetch'>,
  listener: Listener,
  limits: Readonly<Limits> = LIMITS,
): Promise<{ close(): Promise<void> }> => {
  if (listener.kind === 'unix') await claimSocket(listener.path)
  const server = createServer(listener, limits)
  server.maxConnections = MAX_CONNECTIONS
  server.maxHeadersCount = MAX_HEADERS
  const answer = getRequestListener(app.fetch)
  server.on('request', (incoming, outgoing) => {
    letStalledGo(outgoing, limits.stalledMs)
    void answer(incoming, outgoing)
  })
  server.on('upgrade', ({ socket }) => letStalledGo(socket, limits.stalledMs))
  const upgrades = serveUpgrades(server, app.fetch)
  await listen(server, listener)
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
        upgrades.closeAll()
      }),
  }
}

const createServer = (listener: Listener, { headersMs }: Limits): Server => {
  const options: ServerOptions = {
    headersTimeout: headersMs,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: headersMs / 2,
  }
  if (listener.kind === 'unix') return createHttpServer(options)
  const { key, certificate: cert } = listener.identity
  // Its own certificate is the one authority: without `ca` node parses every public one, and keeps 12 MB of them.
  const tls = {
    ...{ key, cert, ca: cert },
    minVersion: 'TLSv1.3',
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  } as const
  const server = createHttpsServer({ ...options, ...tls })
  limitSources(server)
  return server
}

/** Counts raw connections, so before the handshake. */
const limitSources = (server: Server): void => {
  const open = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    const source = socket.remoteAddress ?? ''
    const count = (open.get(source) ?? 0) + 1
    open.set(source, count)
    socket.once('close', () => {
      const left = (open.get(source) ?? 1) - 1
      if (left === 0) open.delete(source)
      else open.set(source, left)
    })
    if (count > MAX_OF_ONE_SOURCE) socket.destroy()
  })
}

/** A timer of node's runs while nothing moves; one that finds nothing waiting has found a quiet stream. */
const letStalledGo = (to: ServerResponse | Socket, stalledMs: number): void => {
  to.setTimeout(stalledMs)
  to.on('timeout', () => {
    if (to.writableLength > 0) to.destroy()
    else to.setTimeout(stalledMs)
  })
}

const listen = async (server: Server, listener: Listener): Promise<void> => {
  const where = listener.kind === 'unix' ? listener.path : `tls://${listener.host}:${listener.port}`
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new AgentError(
          listener.kind === 'unix' ? 'home_unusable' : 'port_in_use',
          `cannot listen on ${where}: ${errorText(error)}`,
          { cause: error, ...(listener.kind === 'unix' ? {} : { hint: 'Give another --listen.' }) },
        ),
      ),
    )
    server.listen(listener.kind === 'unix' ? { path: listener.path } : listener, resolve)
  })
  if (listener.kind === 'unix') chmodSync(listener.path, 0o600)
}

/** What is left at the path is a dead agent's where nobody answers. */
const claimSocket = async (path: string): Promise<void> => {
  if (await somebodyAnswers(path))
    throw new AgentError('already_running', `another agentd listens on ${path}`)
  rmSync(path, { force: true })
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
