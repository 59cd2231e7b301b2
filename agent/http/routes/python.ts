import { z } from 'zod'
import { PythonCheck, PythonInstallRow, PythonPlanRecord } from '../../../shared/contract/python-records.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Specs = z.strictObject({ specs: z.array(z.string().min(1)).min(1) })

export const pythonRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/python/check',
        summary: 'The state of the manifest’s Python; runs and changes nothing of it',
        responses: { 200: json(PythonCheck, 'What it is, and what is wrong with it') },
      }),
      async (c) => c.json(await box.python.check({ signal: c.req.raw.signal }), 200),
    )
    .openapi(
      route('read', {
        method: 'post',
        path: '/python/plan',
        summary: 'What installing these requirements would change; nothing is done',
        request: { body: jsonBody(Specs) },
        responses: { 200: json(PythonPlanRecord, 'Changes and problems') },
      }),
      async (c) =>
        c.json(await box.python.plan(c.req.valid('json').specs, { signal: c.req.raw.signal }), 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/python/install',
        summary: 'Install requirements, or change nothing; answers when it is done',
        request: { body: jsonBody(Specs) },
        responses: {
          200: json(
            z.object({ install: PythonInstallRow.nullable() }),
            'The install; null when everything was there',
          ),
        },
      }),
      async (c) =>
        c.json(
          { install: await box.python.install(c.req.valid('json').specs, { signal: c.req.raw.signal }) },
          200,
        ),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/python/history',
        summary: 'Installs, newest first',
        responses: { 200: json(z.object({ installs: z.array(PythonInstallRow) }), 'Installs') },
      }),
      async (c) => c.json({ installs: [...(await box.python.history({ signal: c.req.raw.signal }))] }, 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/python/rollback',
        summary: 'Take an install back, and those after it; the last one without an id',
        request: { body: jsonBody(z.strictObject({ id: z.string().nullable().default(null) })) },
        responses: { 200: json(z.object({ install: PythonInstallRow }), 'The install that was taken back') },
      }),
      async (c) =>
        c.json(
          { install: await box.python.rollBack(c.req.valid('json').id, { signal: c.req.raw.signal }) },
          200,
        ),
    )
