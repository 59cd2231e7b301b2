import { StatusRecord } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { metricsText } from '../metrics.ts'
import { createRouter, json, route } from './router.ts'

export const statusRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/status',
        summary: 'The whole box',
        responses: { 200: json(StatusRecord, 'The box as it is now') },
      }),
      async (c) => c.json(await box.status(), 200),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/metrics',
        summary: 'The status as Prometheus text',
        responses: { 200: { description: 'Exposition format 0.0.4' } },
      }),
      async (c) =>
        c.text(metricsText(await box.status(), Date.now()), 200, {
          'content-type': 'text/plain; version=0.0.4; charset=utf-8',
        }),
    )
