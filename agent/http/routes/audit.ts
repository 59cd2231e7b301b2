import { AuditRecord } from '../../../shared/contract/audit-record.ts'
import type { Box } from '../box.ts'
import { createRouter, json, route } from './router.ts'

export const auditRoutes = (box: Box) =>
  createRouter().openapi(
    route('operate', {
      method: 'get',
      path: '/audit',
      summary: 'The health and safety of the box; nothing is changed',
      responses: { 200: json(AuditRecord, 'What was found') },
    }),
    async (c) => c.json(await box.audit({ signal: c.req.raw.signal }), 200),
  )
