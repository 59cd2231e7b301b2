import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { BudgetRow } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Answer = z.object({ budget: BudgetRow })
const positive = z.number().positive().max(1e6).exactOptional()
/** One of the two. */
const Extension = z.strictObject({ hours: positive, usd: positive })

const HOUR_MS = 3_600_000

export const budgetRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/budget',
        summary: 'What the box has cost, and when it is stopped',
        responses: { 200: json(Answer, 'The budget') },
      }),
      (c) => c.json({ budget: box.budget.row() }, 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/budget/extend',
        summary: 'More time or more money; it takes back an announced stop',
        request: { body: jsonBody(Extension) },
        responses: { 200: json(Answer, 'The budget as it is now') },
      }),
      (c) => {
        const { hours, usd } = c.req.valid('json')
        if ((hours === undefined) === (usd === undefined))
          throw new AgentError('bad_request', 'an extension is hours or usd, one of the two')
        box.budget.extend(usd === undefined ? { ms: (hours ?? 0) * HOUR_MS } : { usd })
        return c.json({ budget: box.budget.row() }, 200)
      },
    )
