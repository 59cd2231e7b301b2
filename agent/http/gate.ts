import type { MiddlewareHandler } from 'hono'
import { AgentError } from '../../shared/contract/errors.ts'
import type { TokenRow } from '../../shared/contract/records.ts'
import type { Scope } from '../../shared/contract/states.ts'
import { scopeAllows } from '../../shared/contract/states.ts'
import type { Tokens } from './tokens.ts'

export type GateVariables = { readonly token: TokenRow }

/**
 * Refuses what a browser page could send (the agent has no pages of its own): any Origin or Referer, and a
 * cross-site fetch. A page that tricks a laptop into calling the tunnel ends here.
 */
export const refuseBrowsers: MiddlewareHandler = async (c, next) => {
  const foreign =
    c.req.header('origin') !== undefined ||
    c.req.header('referer') !== undefined ||
    c.req.header('sec-fetch-site') === 'cross-site'
  if (foreign) throw new AgentError('forbidden', 'requests from web pages are refused')
  await next()
}

/** Lets a request pass when its bearer token is known. The answer to a wrong one is the same as to none. */
export const requireToken =
  (tokens: Tokens): MiddlewareHandler<{ Variables: GateVariables }> =>
  async (c, next) => {
    const [scheme, credentials] = (c.req.header('authorization') ?? '').split(' ', 2)
    const row = scheme?.toLowerCase() === 'bearer' ? tokens.verify(credentials ?? '') : undefined
    if (row === undefined)
      throw new AgentError('unauthorized', 'the token is missing or not known to this box')
    c.set('token', row)
    await next()
  }

/** Lets a request pass when its token's scope covers `scope`. */
export const requireScope =
  (scope: Scope): MiddlewareHandler<{ Variables: GateVariables }> =>
  async (c, next) => {
    const token = c.get('token')
    if (!scopeAllows(token.scope, scope))
      throw new AgentError(
        'forbidden',
        `the token “${token.name}” has scope ${token.scope}; this needs ${scope}`,
      )
    await next()
  }
