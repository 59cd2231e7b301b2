import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { request as httpRequest } from 'node:http'
import { Readable } from 'node:stream'
import { joinUpgrade } from '../../shared/web/join-upgrade.ts'
import type { AcceptUpgrade } from './upgrade.ts'

/**
 * The page of a process, passed through: the address is the process's own and never the caller's choice. What could
 * tell the page about its visitor stays here (tokens, cookies, where it comes from), and nothing of the page's cookies
 * or its permissions for other pages gets out.
 */

/** About one connection alone (RFC 9110, 7.6.1). */
const HOP = /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings)$/
const KEPT_HERE =
  /^(host|origin|referer|authorization|cookie|forwarded|x-forwarded-.*|x-real-ip|sec-fetch-.*)$/
const NOT_PASSED_ON = /^(set-cookie|access-control-.*|strict-transport-security|alt-svc)$/

export type Upstream = { readonly host: string; readonly port: number; readonly path: string }

/** One request. Resolves with the page's answer, or with a plain page that says that there is none. */
export const proxyRequest = (request: Request, upstream: Upstream): Promise<Response> =>
  new Promise((resolve) => {
    const unsafe = request.method !== 'GET' && request.method !== 'HEAD'
    const outgoing = httpRequest(
      {
        ...upstream,
        method: request.method,
        headers: requestHeaders(Object.fromEntries(request.headers), { upstream, withOrigin: unsafe }),
        agent: false,
        signal: request.signal,
      },
      (incoming) => {
        const status = incoming.statusCode ?? 502
        const headers = new Headers(responseHeaders(incoming.headers, upstream))
        const isEmpty = request.method === 'HEAD' || [204, 205, 304].includes(status)
        if (isEmpty) incoming.resume()
        resolve(
          new Response(isEmpty ? null : (Readable.toWeb(incoming) as ReadableStream), { status, headers }),
        )
      },
    )
    outgoing.on('error', () => resolve(noAnswer()))
    if (request.body === null) outgoing.end()
    else {
      const body = Readable.fromWeb(request.body)
      body.on('error', (error) => outgoing.destroy(error))
      body.pipe(outgoing)
    }
  })

/**
 * A WebSocket of the page: once both sides have agreed, their bytes pass as they are.
 * @param onUse called when the visitor sends something
 */
export const proxyUpgrade =
  (upstream: Upstream, onUse: () => void): AcceptUpgrade =>
  (incoming, socket, head) => {
    const headers = {
      ...requestHeaders(incoming.headers, { upstream, withOrigin: true }),
      connection: 'Upgrade',
      upgrade: 'websocket',
    }
    const outgoing = httpRequest({ ...upstream, headers, agent: false })
    outgoing.once('upgrade', () => socket.on('data', onUse))
    joinUpgrade(outgoing, { socket, head })
  }

const requestHeaders = (
  headers: IncomingHttpHeaders,
  { upstream, withOrigin }: { readonly upstream: Upstream; readonly withOrigin: boolean },
): OutgoingHttpHeaders => {
  const authority = `${upstream.host}:${upstream.port}`
  const kept = Object.entries(headers).filter(([name]) => !HOP.test(name) && !KEPT_HERE.test(name))
  return {
    ...Object.fromEntries(kept),
    host: authority,
    // Pages that change something ask for an origin that is theirs (ComfyUI compares it with Host).
    ...(withOrigin ? { origin: `http://${authority}` } : {}),
  }
}

const responseHeaders = (headers: IncomingHttpHeaders, upstream: Upstream): [string, string][] =>
  Object.entries(headers)
    .filter(([name]) => !HOP.test(name) && !NOT_PASSED_ON.test(name))
    .flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value ?? '']).map((one): [string, string] => [
        name,
        name === 'location' ? one.replace(`http://${upstream.host}:${upstream.port}`, '') : one,
      ]),
    )

/** Generic on purpose: what the agent knows about the failure is for `status`, not for a page. */
const noAnswer = (): Response =>
  new Response(
    '<!doctype html><title>No answer</title><p>The process does not answer. agentctl ps says why.\n',
    {
      status: 502,
      headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' },
    },
  )
