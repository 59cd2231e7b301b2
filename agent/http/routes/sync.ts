import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { z } from 'zod'
import {
  CheckpointFiles,
  CheckpointRow,
  ChunkHashes,
  FlushRecord,
  SyncRow,
} from '../../../shared/contract/records.ts'
import { AgentError } from '../../../shared/contract/errors.ts'
import type { Log } from '../../platform/log.ts'
import type { Box } from '../box.ts'
import { createFileSender } from '../send-file.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Rows = z.object({ sync: z.array(SyncRow) })
const OfSync = z.object({ sync: z.string().exactOptional() })
const Name = z.object({ name: z.string() })

/** A day. */
const LONGEST_FLUSH_S = 86_400

export const syncRoutes = (box: Box, log: Log) => {
  const sendFile = createFileSender(log)
  return createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/sync',
        summary: 'The state of each sync',
        responses: { 200: json(Rows, 'Syncs') },
      }),
      (c) => c.json({ sync: [...box.sync.rows()] }, 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/sync',
        summary: 'Compare and copy now; answers when it is done',
        request: { body: jsonBody(z.strictObject({ name: z.string().nullable().default(null) })) },
        responses: { 200: json(Rows, 'Syncs') },
      }),
      async (c) =>
        c.json(
          { sync: [...(await box.sync.runNow(c.req.valid('json').name, { signal: c.req.raw.signal }))] },
          200,
        ),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/sync/flush',
        summary:
          'Copy what can be copied until the deadline, before the box goes away; answers with what is left',
        request: {
          body: jsonBody(z.strictObject({ deadlineSeconds: z.number().positive().max(LONGEST_FLUSH_S) })),
        },
        responses: { 200: json(FlushRecord, 'What was stored and what is left') },
      }),
      async (c) => {
        const deadlineMs = 1000 * c.req.valid('json').deadlineSeconds
        return c.json(await box.sync.flush({ deadlineMs, signal: c.req.raw.signal }), 200)
      },
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/checkpoints',
        summary: 'Complete checkpoints, newest first',
        request: { query: OfSync },
        responses: { 200: json(z.object({ checkpoints: z.array(CheckpointRow) }), 'Checkpoints') },
      }),
      async (c) =>
        c.json({ checkpoints: [...(await box.sync.checkpoints(c.req.valid('query').sync ?? null))] }, 200),
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/checkpoints/{name}/files',
        summary: 'The files of a checkpoint with their hashes; `latest` is the newest complete one',
        request: { params: Name, query: OfSync },
        responses: { 200: json(CheckpointFiles, 'Files') },
      }),
      async (c) => {
        const { name } = c.req.valid('param')
        return c.json(await box.sync.checkpointFiles({ name, sync: c.req.valid('query').sync ?? null }), 200)
      },
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/checkpoints/{name}/chunks',
        summary: 'Hashes of the chunks of one file, to fetch only what an earlier version lacks',
        request: { params: Name, query: OfSync.extend({ path: z.string(), digest: z.string() }) },
        responses: { 200: json(ChunkHashes, 'Hashes') },
      }),
      async (c) => {
        const { sync, path, digest } = c.req.valid('query')
        const { name } = c.req.valid('param')
        const which = { name, sync: sync ?? null, path, digest }
        return c.json(await box.sync.checkpointChunks(which, { signal: c.req.raw.signal }), 200)
      },
    )
    .openapi(
      route('read', {
        method: 'get',
        path: '/checkpoints/{name}/file',
        summary: 'The bytes of one file; ranges, If-Range and a strong ETag',
        request: { params: Name, query: OfSync.extend({ path: z.string(), digest: z.string() }) },
        responses: {
          200: { description: 'The whole file' },
          206: { description: 'The range' },
        },
      }),
      async (c) => {
        const { incoming, outgoing } = c.env
        if (outgoing === undefined) throw new AgentError('bad_request', 'a file is not sent over a WebSocket')
        const { sync, path, digest } = c.req.valid('query')
        const file = await box.sync.openCheckpointFile({
          name: c.req.valid('param').name,
          sync: sync ?? null,
          path,
          digest,
        })
        await sendFile(file, incoming.headers, outgoing)
        return RESPONSE_ALREADY_SENT
      },
    )
}
