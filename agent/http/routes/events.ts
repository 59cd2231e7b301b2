import { streamSSE } from 'hono/streaming'
import { z } from 'zod'
import { EventRecord } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { wantsEventStream } from '../stream-limit.ts'
import { createRouter, json, route } from './router.ts'

const PAGE = 200
const PROGRESS_EVERY_MS = 1_000
/** Comments keep proxies and sleeping laptops from taking silence for death. */
const PING_EVERY_MS = 20_000

const Query = z.object({
  after: z.coerce
    .number()
    .int()
    .nonnegative()
    .exactOptional()
    .describe('events with a higher id; 0 is the beginning'),
  limit: z.coerce.number().int().min(1).max(1000).default(PAGE),
})

/**
 * The journal, as a stream or as a page. The stream reads from the journal at the pace of the client and holds
 * nothing in memory, so a slow reader costs only itself. Messages of type `progress` have no id and are not kept.
 */
export const eventRoutes = (box: Box) =>
  createRouter().openapi(
    route('read', {
      method: 'get',
      path: '/events',
      summary: 'What happens, as server-sent events; with Accept: application/json what happened, as a page',
      request: { query: Query },
      responses: { 200: json(z.object({ events: z.array(EventRecord) }), 'Events, oldest first') },
    }),
    (c) => {
      const { after, limit } = c.req.valid('query')
      if (!wantsEventStream(c.req)) {
        const from = after ?? Math.max(0, box.journal.lastId() - limit)
        return c.json({ events: [...box.journal.read(from, limit)] }, 200)
      }
      const resumed = Number(c.req.header('last-event-id'))
      let last =
        c.req.header('last-event-id') && Number.isInteger(resumed) ? resumed : (after ?? box.journal.lastId())
      return streamSSE(c, async (out) => {
        let wake: () => void = () => undefined
        let closed = false
        const unsubscribe = box.journal.subscribe(() => wake())
        out.onAbort(() => {
          closed = true
          wake()
        })
        let progressAt = 0
        let pingAt = performance.now() + PING_EVERY_MS
        try {
          for (;;) {
            const events = box.journal.read(last, PAGE)
            for (const event of events) {
              await out.writeSSE({ id: String(event.id), event: event.type, data: JSON.stringify(event) })
              last = event.id
            }
            if (isClosed()) return
            const now = performance.now()
            if (now >= progressAt) {
              const data = JSON.stringify({
                run: box.currentRun() ?? null,
                downloads: box.downloads.rows(),
              })
              await out.writeSSE({ event: 'progress', data })
              progressAt = now + PROGRESS_EVERY_MS
            }
            if (now >= pingAt) {
              await out.write(': ping\n\n')
              pingAt = now + PING_EVERY_MS
            }
            if (events.length < PAGE) {
              await new Promise<void>((resolve) => {
                const timer = setTimeout(resolve, PROGRESS_EVERY_MS)
                wake = () => {
                  clearTimeout(timer)
                  resolve()
                }
                if (isClosed() || box.journal.lastId() > last) wake()
              })
            }
          }
        } finally {
          unsubscribe()
        }
        function isClosed(): boolean {
          return closed || out.aborted
        }
      }) as never
    },
  )
