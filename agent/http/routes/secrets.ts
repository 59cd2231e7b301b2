import { z } from 'zod'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Named = z.object({ name: z.string() })

export const secretRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('admin', {
        method: 'get',
        path: '/secrets',
        summary: 'The names of the secrets that were given to this box; values are never shown',
        responses: { 200: json(z.object({ secrets: z.array(Named) }), 'Names') },
      }),
      (c) => c.json({ secrets: box.secrets.names().map((name) => ({ name })) }, 200),
    )
    .openapi(
      route('admin', {
        method: 'put',
        path: '/secrets/{name}',
        summary: 'Give the box a secret; it counts at once',
        request: { params: Named, body: jsonBody(z.strictObject({ value: z.string() })) },
        responses: { 200: json(z.object({ secret: Named }), 'Its name') },
      }),
      (c) => {
        const { name } = c.req.valid('param')
        box.secrets.set(name, c.req.valid('json').value)
        return c.json({ secret: { name } }, 200)
      },
    )
    .openapi(
      route('admin', {
        method: 'delete',
        path: '/secrets/{name}',
        summary: 'Take a secret out of the box',
        request: { params: Named },
        responses: { 200: json(z.object({ removed: z.string() }), 'Its name') },
      }),
      (c) => {
        const { name } = c.req.valid('param')
        box.secrets.remove(name)
        return c.json({ removed: name }, 200)
      },
    )
