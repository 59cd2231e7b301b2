import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { PlanRecord, RunRecord } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const ManifestText = z.strictObject({
  manifest: z
    .string()
    .max(4 * 2 ** 20)
    .describe('the text of the manifest'),
  file: z.string().max(4096).default('manifest.yaml').describe('its file name, for messages'),
})
const RunRequest = ManifestText.extend({
  allowMissing: z
    .array(z.string().max(4096))
    .max(1000)
    .default([])
    .describe('subjects of errors in the plan that the run may do without; it is degraded then'),
})
const Id = z.object({ id: z.string() })
const One = z.object({ run: RunRecord })

export const runRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'post',
        path: '/plan',
        summary: 'What apply would do, and every problem; changes nothing',
        request: { body: jsonBody(ManifestText) },
        responses: { 200: json(PlanRecord, 'The plan') },
      }),
      async (c) => c.json(await box.plan(c.req.valid('json'), c.req.raw.signal), 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/runs',
        summary: 'Bring the box to a manifest',
        request: { body: jsonBody(RunRequest) },
        responses: {
          202: json(
            One.extend({ joined: z.boolean(), plan: PlanRecord.nullable() }),
            'The run and its plan; joined is true, and the plan null, when it was under way already',
          ),
        },
      }),
      async (c) => c.json(await box.apply({ ...c.req.valid('json'), scope: c.get('token').scope }), 202),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/runs',
        summary: 'Earlier attempts, newest first',
        responses: { 200: json(z.object({ runs: z.array(RunRecord) }), 'Runs') },
      }),
      (c) => c.json({ runs: [...box.runs.list(100)] }, 200),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/runs/{id}',
        summary: 'One attempt',
        request: { params: Id },
        responses: { 200: json(One, 'The run') },
      }),
      (c) => {
        const { id } = c.req.valid('param')
        const run = box.runs.get(id)
        if (run === undefined) throw new AgentError('not_found', `there is no run ${id}`)
        return c.json({ run }, 200)
      },
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/runs/{id}/cancel',
        summary: 'Stop a run that is under way; answers when it has ended',
        request: { params: Id },
        responses: { 200: json(One, 'The run') },
      }),
      async (c) => c.json({ run: await box.cancel(c.req.valid('param').id) }, 200),
    )
