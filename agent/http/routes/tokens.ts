import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { TokenRow } from '../../../shared/contract/records.ts'
import { SCOPES } from '../../../shared/contract/states.ts'
import type { Box } from '../box.ts'
import type { Connections } from '../connections.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

/** Strict: a misspelt `expiresAt` must not make a token for ever. */
const NewToken = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(100)
    .regex(/^\P{C}*$/u, 'has control characters'),
  scope: z.enum(SCOPES),
  expiresAt: z.iso.datetime().nullable().default(null).describe('until when it counts; null for ever'),
})
/** How the box is reached by whoever holds the token and has no ssh: the pin of its certificate and the port there. */
const Tls = z.object({ spkiPin: z.string(), ports: z.array(z.number()) })

export const tokenRoutes = (box: Box, connections: Connections) =>
  createRouter()
    .openapi(
      route('admin', {
        method: 'get',
        path: '/tokens',
        summary: 'Who may talk to the box',
        responses: { 200: json(z.object({ tokens: z.array(TokenRow) }), 'Tokens, without their secrets') },
      }),
      (c) => c.json({ tokens: [...box.tokens.list()] }, 200),
    )
    .openapi(
      route('admin', {
        method: 'post',
        path: '/tokens',
        summary: 'Make a token; its text is in this answer and nowhere else',
        request: { body: jsonBody(NewToken) },
        responses: { 201: json(TokenRow.extend({ token: z.string(), tls: Tls.nullable() }), 'The token') },
      }),
      (c) => {
        const asked = c.req.valid('json')
        if (asked.expiresAt !== null && Date.parse(asked.expiresAt) <= Date.now())
          throw new AgentError('bad_request', `expiresAt: ${asked.expiresAt} has passed already`)
        const { token, row } = box.tokens.create(asked)
        return c.json({ ...row, token, tls: box.tls }, 201)
      },
    )
    .openapi(
      route('admin', {
        method: 'delete',
        path: '/tokens/{id}',
        summary: 'Revoke a token, at once; its streams and terminals end',
        request: { params: z.object({ id: z.string() }) },
        responses: { 200: json(z.object({ revoked: z.string() }), 'Its id') },
      }),
      (c) => {
        const { id } = c.req.valid('param')
        box.tokens.revoke(id)
        connections.end(id, c.env.incoming.socket)
        return c.json({ revoked: id }, 200)
      },
    )
