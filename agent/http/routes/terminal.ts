import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { ProcessRow } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { acceptTerminal } from '../terminal-socket.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Name = z.object({ name: z.string() })
const From = z.object({ from: z.coerce.number().int().nonnegative().exactOptional() })
const Command = z.strictObject({
  command: z.array(z.string().max(131_072)).min(1).max(4096),
  input: z
    .enum(['terminal', 'none'])
    .default('terminal')
    .describe('none: it reads the end of its input at once'),
})

/** What runs code of the caller's choosing: terminals and one-off processes, for admin alone. */
export const terminalRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('admin', {
        method: 'post',
        path: '/exec',
        summary: 'Run a command once; it outlives the connection, and is in the list of processes',
        request: { body: jsonBody(Command) },
        responses: { 201: json(z.object({ process: ProcessRow }), 'The process, begun') },
      }),
      async (c) => {
        const process = await box.processes.runOnce(c.req.valid('json'), { signal: c.req.raw.signal })
        return c.json({ process }, 201)
      },
    )
    .openapi(
      route('admin', {
        method: 'get',
        path: '/processes/{name}/terminal',
        summary:
          'A WebSocket to its terminal: binary messages are bytes, {"type":"resize","columns","rows"} its size',
        request: { params: Name, query: From },
        responses: { 101: { description: 'The terminal' } },
      }),
      async (c) => {
        const { upgrade } = c.env
        if (upgrade === undefined)
          throw new AgentError('bad_request', 'a terminal is reached through a WebSocket', {
            hint: 'Use agentctl attach.',
          })
        const { from } = c.req.valid('query')
        // It is closed with the connection; the request itself is over once it is accepted.
        const { signal } = new AbortController()
        const terminal = await box.processes.terminal(c.req.valid('param').name, {
          signal,
          ...(from === undefined ? {} : { fromOffset: from }),
        })
        upgrade.accept = acceptTerminal(terminal)
        return c.body(null, 200)
      },
    )
