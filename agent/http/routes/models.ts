import { z } from 'zod'
import { ModelRow, Problem } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const Pull = z.strictObject({
  source: z
    .string()
    .min(1)
    .max(4096)
    .describe('hf://owner/repo@revision/path, civitai://versions/ID, https://…'),
  to: z
    .string()
    .min(1)
    .max(4096)
    .nullable()
    .default(null)
    .describe('a file or folder, relative to models_root or absolute'),
  allow_pickle: z.boolean().default(false),
})
const Models = z.object({ models: z.array(ModelRow) })

export const modelRoutes = (box: Box) =>
  createRouter()
    .openapi(
      route('read', {
        method: 'get',
        path: '/models',
        summary: 'The files that downloads brought',
        responses: { 200: json(Models, 'Every file, from where, verified when') },
      }),
      async (c) => c.json({ models: [...(await box.models.list())] }, 200),
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/models/pull',
        summary: 'Fetch one file; answers when it is there, and stops when the caller goes',
        request: { body: jsonBody(Pull) },
        responses: {
          200: json(z.object({ model: ModelRow, problems: z.array(Problem) }), 'The file, verified'),
        },
      }),
      async (c) => {
        const { source, to, allow_pickle: allowPickle } = c.req.valid('json')
        const pulled = await box.models.pull({ source, to, allowPickle }, { signal: c.req.raw.signal })
        return c.json({ model: pulled.model, problems: [...pulled.problems] }, 200)
      },
    )
    .openapi(
      route('operate', {
        method: 'post',
        path: '/models/verify',
        summary: 'Read every byte of every file again; a damaged one is fetched again by the next run',
        responses: {
          200: json(Models.extend({ problems: z.array(Problem) }), 'The files, and what is wrong'),
        },
      }),
      async (c) => {
        const problems = await box.models.verify({ signal: c.req.raw.signal })
        return c.json({ models: [...(await box.models.list())], problems: [...problems] }, 200)
      },
    )
