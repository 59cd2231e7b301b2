import { stream } from 'hono/streaming'
import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { ProcessRow } from '../../../shared/contract/records.ts'
import { parseDuration } from '../../../shared/contract/units.ts'
import type { Box } from '../box.ts'
import { createRouter, json, route } from './router.ts'

const Name = z.object({ name: z.string() })
const Action = Name.extend({ action: z.enum(['start', 'stop', 'restart']) })
const flag = z
  .enum(['true', 'false'])
  .default('false')
  .transform((value) => value === 'true')
const count = z.coerce.number().int().nonnegative()
const LogQuery = z.object({
  tail: count.exactOptional().describe('only the last N lines'),
  since: z.string().exactOptional().describe('a time (ISO 8601) or an age like 10m'),
  from: count.exactOptional().describe('the byte offset to go on from'),
  follow: flag,
  raw: flag.describe('with terminal control sequences'),
})

export const processRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/processes',
        summary: 'What the agent keeps running or ran',
        responses: { 200: json(z.object({ processes: z.array(ProcessRow) }), 'Processes') },
      }),
      (c) => c.json({ processes: [...box.processes.rows()] }, 200),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/processes/{name}',
        summary: 'One process',
        request: { params: Name },
        responses: { 200: json(z.object({ process: ProcessRow }), 'The process') },
      }),
      (c) => c.json({ process: box.processes.row(c.req.valid('param').name) }, 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/processes/{name}/{action}',
        summary: 'Start, stop or restart a process; repeating a call is safe and says so',
        request: { params: Action },
        responses: { 200: json(z.object({ process: ProcessRow, result: z.string() }), 'What was done') },
      }),
      async (c) => {
        const { name, action } = c.req.valid('param')
        const result = await box.processes[action](name, { signal: c.req.raw.signal })
        return c.json({ process: box.processes.row(name), result }, 200)
      },
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/processes/{name}/logs',
        summary: 'The output of a process, also after it ended',
        request: { params: Name, query: LogQuery },
        responses: {
          200: { description: 'Text; x-log-offset is the offset of its first byte' },
        },
      }),
      async (c) => {
        const { name } = c.req.valid('param')
        const query = c.req.valid('query')
        const abort = new AbortController()
        const output = box.processes.logs(name, {
          ...(query.from === undefined ? {} : { fromOffset: query.from }),
          ...(query.tail === undefined ? {} : { tailLines: query.tail }),
          ...(query.since === undefined ? {} : { sinceMs: sinceMs(query.since) }),
          follow: query.follow,
          signal: AbortSignal.any([c.req.raw.signal, abort.signal]),
        })
        const chunks = output[Symbol.asyncIterator]()
        const first = chunks.next()
        // The first chunk is asked for before the answer begins, so that an unknown process is still a 404.
        const ready = await Promise.race([first, nothingYet(query.follow)])
        c.header('content-type', 'text/plain; charset=utf-8')
        // A quiet process has no first byte yet; what it prints begins where the reader asked to go on.
        const offset = ready && !ready.done ? ready.value.offset : query.since ? undefined : (query.from ?? 0)
        if (offset !== undefined) c.header('x-log-offset', String(offset))
        return stream(c, async (out) => {
          out.onAbort(() => abort.abort())
          const strip = box.processes.createStripper()
          const write = (bytes: Uint8Array) => out.write(query.raw ? bytes : strip.push(bytes))
          for (let next = await first; !next.done; next = await chunks.next()) await write(next.value.bytes)
          if (!query.raw) await out.write(strip.end())
        })
      },
    )

/** A process that prints nothing for a while must not hold the headers of a followed log back. */
const nothingYet = (follow: boolean): Promise<undefined> =>
  follow ? new Promise((resolve) => setTimeout(resolve, 200, undefined)) : new Promise(() => undefined)

const sinceMs = (since: string): number => {
  const age = parseDuration(since)
  const at = age === undefined ? Date.parse(since) : Date.now() - age
  if (Number.isNaN(at))
    throw new AgentError('bad_request', `since: “${since}” is neither a time nor an age`, {
      hint: 'Write 10m, or 2026-01-31T12:00:00Z.',
    })
  return at
}
