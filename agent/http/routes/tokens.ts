import { z } from 'zod'
import { TokenRow } from '../../../shared/contract/records.ts'
import { SCOPES } from '../../../shared/contract/states.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const NewToken = z.object({ name: z.string().min(1).max(100), scope: z.enum(SCOPES) })

export const tokenRoutes = (box: Box) =>
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
        responses: { 201: json(TokenRow.extend({ token: z.string() }), 'The token') },
      }),
      (c) => {
        const { token, row } = box.tokens.create(c.req.valid('json'))
        return c.json({ ...row, token }, 201)
      },
    )
    .openapi(
      route('admin', {
        method: 'delete',
        path: '/tokens/{id}',
        summary: 'Revoke a token, at once',
        request: { params: z.object({ id: z.string() }) },
        responses: { 200: json(z.object({ revoked: z.string() }), 'Its id') },
      }),
      (c) => {
        const { id } = c.req.valid('param')
        box.tokens.revoke(id)
        return c.json({ revoked: id }, 200)
      },
    )
