import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { AgentError } from '../../shared/contract/errors.ts'
import { joinUpgrade } from '../../shared/web/join-upgrade.ts'
import type { Api } from '../api.ts'
import { processPath } from '../api.ts'
import type { Way } from '../connection.ts'
import { errnoOf } from '../exit.ts'
import { isOwnRequest } from './own-request.ts'
import { createVisitorCheck } from './visitor.ts'

export type Page = {
  /** Lets one browser in. */
  readonly url: string
  /** Lets a program in. */
  readonly cookie: string
  readonly closed: Promise<void>
}

type PageDeps = {
  readonly name: string
  /** 0: any free one. */
  readonly port: number
  readonly api: Api
  readonly signal: AbortSignal
}

/** Never leave this machine: who asks, and what it is allowed elsewhere. */
const KEPT_HERE =
  /^(host|origin|referer|authorization|cookie|forwarded|x-forwarded-.*|sec-fetch-.*|connection)$/

/**
 * Serves the page of a process on 127.0.0.1, each request passed through the agent with the client's token.
 * @throws AgentError also when there is no such process, or the port is taken
 */
export const servePage = async ({ name, port, api, signal }: PageDeps): Promise<Page> => {
  let way = await api.wayTo(name, signal)
  /** A tunnel that was closed is opened again by asking. */
  const renew = async (): Promise<Way> => (way = await api.wayTo(name, signal))
  const server = createServer()
  await listen(server, port)
  const visitors = createVisitorCheck(portOf(server))
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (!isOwnRequest(request, portOf(server))) {
      answer(response, 403, 'Requests from other pages are refused.')
      return
    }
    const visitor = visitors.judge(request)
    if (visitor === 'known') pass(request, { name, way, response, renew })
    else if (visitor === 'stranger') answer(response, 403, STRANGER)
    else {
      response.writeHead(303, { ...visitors.welcome, 'cache-control': 'no-store' })
      response.end()
    }
  })
  const sockets = new Set<Duplex>()
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    const isKnown = isOwnRequest(request, portOf(server)) && visitors.judge(request) === 'known'
    if (isKnown) passUpgrade(request, { name, way, socket, head })
    else socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  })
  const closed = new Promise<void>((_resolve, reject) => {
    const close = (): void => {
      server.close()
      server.closeAllConnections()
      for (const socket of sockets) socket.destroy()
      reject(signal.reason as AgentError)
    }
    if (signal.aborted) close()
    signal.addEventListener('abort', close, { once: true })
  })
  return { url: visitors.address, cookie: visitors.cookie, closed }
}

const STRANGER =
  'This page is for whoever opened it. Use the address that agentctl printed; it works once, and agentctl open gives another.'

const pass = (
  request: IncomingMessage,
  context: {
    readonly name: string
    readonly way: Way
    readonly response: ServerResponse
    readonly renew: () => Promise<Way>
  },
): void => {
  const { name, way, response, renew } = context
  const outgoing = httpRequest(
    {
      method: request.method,
      path: `${processPath(name)}/web${request.url ?? '/'}`,
      headers: { ...headersFor(request.headers, way), host: 'agent' },
      ...(way.agent === undefined ? { createConnection: way.connect } : { agent: way.agent }),
    },
    (incoming) => {
      response.writeHead(incoming.statusCode ?? 502, {
        ...incoming.headers,
        'content-security-policy': framing(incoming.headers['content-security-policy']),
      })
      incoming.pipe(response)
      incoming.on('error', () => response.destroy())
    },
  )
  response.once('close', () => outgoing.destroy())
  outgoing.on('error', (error) => {
    if (response.headersSent) {
      response.destroy()
      return
    }
    // Nothing listens any more, or the way broke before the answer began: reading twice does no harm.
    const isLost = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(errnoOf(error) ?? '')
    if (isLost && request.method === 'GET')
      renew().then(
        (renewed) => pass(request, { ...context, way: renewed, renew: () => Promise.reject(error) }),
        () => answer(response, 502, 'The box cannot be reached.'),
      )
    else answer(response, 502, 'The box cannot be reached.')
  })
  if (request.method === 'GET' || request.method === 'HEAD') outgoing.end()
  else request.pipe(outgoing)
}

const passUpgrade = (
  request: IncomingMessage,
  {
    name,
    way,
    socket,
    head,
  }: { readonly name: string; readonly way: Way; readonly socket: Duplex; readonly head: Buffer },
): void => {
  const outgoing = httpRequest({
    path: `${processPath(name)}/web${request.url ?? '/'}`,
    headers: {
      ...headersFor(request.headers, way),
      host: 'agent',
      connection: 'Upgrade',
      upgrade: 'websocket',
    },
    createConnection: way.connect,
  })
  joinUpgrade(outgoing, { socket, head })
}

const headersFor = (headers: IncomingHttpHeaders, way: Way): IncomingHttpHeaders => ({
  ...Object.fromEntries(Object.entries(headers).filter(([name]) => !KEPT_HERE.test(name))),
  ...way.authorization,
})

/** No other page may show this one in a frame and have its clicks. */
const framing = (policy: string | string[] | undefined): string =>
  [policy ?? [], "frame-ancestors 'none'"].flat().join(', ')

const answer = (response: ServerResponse, status: number, text: string): void => {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' })
  response.end(`${text}\n`)
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port

const listen = (server: Server, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new AgentError('usage', `cannot listen on 127.0.0.1:${port}: ${error.message}`, {
          cause: error,
          hint: 'Choose another --port, or leave it out.',
        }),
      ),
    )
    server.listen(port, '127.0.0.1', resolve)
  })
