import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import type { Context, MiddlewareHandler } from 'hono'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { TokenRow } from '../../shared/contract/records.ts'
import type { Scope } from '../../shared/contract/states.ts'
import { scopeAllows } from '../../shared/contract/states.ts'
import type { Log } from '../platform/log.ts'
import type { Connections } from './connections.ts'
import type { FailureLimit } from './failure-limit.ts'
import type { Tokens } from './tokens.ts'
import type { UpgradeSlot } from './upgrade.ts'

/*
 * One gate for requests and for upgrades alike, in this order: what the request looks like, who sends it, what that
 * one may do. A proxy whose upgrades went past the gate of its requests is how others lost their boxes.
 */

/** What a route finds beside the request: node's own view of it, and where a request to upgrade leaves its acceptance. */
export type GateBindings = {
  readonly incoming: IncomingMessage
  /** Not there where a request asks to upgrade. */
  readonly outgoing?: ServerResponse
  readonly upgrade?: UpgradeSlot
}
/** `scope`: what the route asks for, once it is known which route it is. */
export type GateVariables = { readonly token: TokenRow; readonly scope?: Scope }
export type GateEnv = { Bindings: GateBindings; Variables: GateVariables }

/** What a wrong token waits for its answer. */
const FAILURE_DELAY_MS = 100

/**
 * Refuses what no client of ours sends: two Hosts or one of somebody else's (DNS rebinding works with names alone, so
 * addresses pass), anything that a browser page could send (the agent has no pages of its own), and compressed bodies,
 * of which 200 MB fit in 200 kB.
 */
export const checkRequest: MiddlewareHandler<GateEnv> = async (c, next) => {
  const { headersDistinct: headers, url = '' } = c.env.incoming
  const [host = '', ...others] = headers['host'] ?? []
  if (host === '' || others.length > 0) throw new AgentError('bad_request', 'a request has one Host')
  if (!url.startsWith('/')) throw new AgentError('bad_request', 'the address of a request begins with /')
  if (!isOwnHost(host))
    throw new AgentError('forbidden', 'the Host is none of this box', {
      hint: 'Send “Host: agent”, localhost or the address itself.',
    })
  const site = headers['sec-fetch-site']?.join() ?? 'none'
  if (headers['origin'] || headers['referer'] || site !== 'none')
    throw new AgentError('forbidden', 'requests from web pages are refused', {
      hint: 'Ask without Origin, Referer and Sec-Fetch-Site; agentctl open shows the page of a process.',
    })
  if ((headers['content-encoding']?.join() ?? 'identity') !== 'identity')
    throw new AgentError('bad_request', 'compressed bodies are not taken')
  await next()
}

/**
 * Lets a request pass when its bearer token counts. The answer to a wrong one is the same as to none. Failures are
 * slowed down and then cut short for their source; a token that counts is served all the same.
 */
export const requireToken = (deps: {
  readonly tokens: Tokens
  readonly failures: FailureLimit
  readonly connections: Connections
  readonly log: Log
}): MiddlewareHandler<GateEnv> => {
  const { tokens, failures, connections, log } = deps
  return async (c, next) => {
    const [scheme, credentials = ''] = (c.req.header('authorization') ?? '').split(' ', 2)
    const row = scheme?.toLowerCase() === 'bearer' ? tokens.verify(credentials) : undefined
    if (row === undefined) {
      const source = sourceOf(c)
      if (!failures.take(source)) throw new AgentError('too_many_failures', 'too many wrong tokens')
      const [tokenId = ''] = credentials.split('.', 1)
      const claimed = tokens.list().some(({ id }) => id === tokenId) ? tokenId : null
      log.warn('a request without a token that counts', { source, claimed, request: requestText(c) })
      await new Promise((resolve) => setTimeout(resolve, FAILURE_DELAY_MS))
      throw new AgentError('unauthorized', 'the token is missing or not known to this box')
    }
    connections.join(row, c.env.incoming.socket)
    c.set('token', row)
    await next()
  }
}

/** Lets a request pass when its token's scope covers `scope`. */
export const requireScope =
  (scope: Scope): MiddlewareHandler<GateEnv> =>
  async (c, next) => {
    const token = c.get('token')
    c.set('scope', scope)
    if (!scopeAllows(token.scope, scope))
      throw new AgentError(
        'forbidden',
        `the token “${token.name}” has scope ${token.scope}; this needs ${scope}`,
      )
    await next()
  }

/** Puts every request that may have changed something into the journal, with its token and how it ended. */
export const auditChanges =
  (report: Report): MiddlewareHandler<GateEnv> =>
  async (c, next) => {
    await next()
    const scope = c.get('scope')
    const isChange =
      !['GET', 'HEAD', 'OPTIONS'].includes(c.req.method) || (scope === 'admin' && c.env.upgrade)
    if (!isChange || scope === undefined || scope === 'read') return
    const { id: token, name } = c.get('token')
    const status = c.env.upgrade?.accept && c.res.ok ? 101 : c.res.status
    report({
      type: 'api.change',
      subject: requestText(c),
      data: { token, name, status, source: sourceOf(c) },
    })
  }

/** `POST /v1/runs`, without its query. */
const requestText = (c: Context<GateEnv>): string => `${c.req.method} ${c.req.path.slice(0, 200)}`

/** Where a request comes from: an address, or `socket` for the one that only this user can open. */
const sourceOf = (c: Context<GateEnv>): string => c.env.incoming.socket.remoteAddress ?? 'socket'

const isOwnHost = (host: string): boolean => {
  const name = /^(\[[0-9a-f:.]+\]|[^:]+)(?::\d{1,5})?$/i
    .exec(host)?.[1]
    ?.toLowerCase()
    .replace(/^\[|\]$/g, '')
  return name === 'agent' || name === 'localhost' || isIP(name ?? '') !== 0
}
