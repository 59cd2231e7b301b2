import { z } from 'zod'
import { WorkflowReport } from '../../../shared/contract/records.ts'
import type { Box } from '../box.ts'
import { createRouter, json, jsonBody, route } from './router.ts'

const WorkflowText = z.strictObject({
  workflow: z
    .string()
    .max(4 * 2 ** 20)
    .describe('the JSON of the workflow, as the editor saves it or as the API takes it'),
  file: z.string().max(4096).default('workflow.json').describe('its file name, for messages'),
  process: z.string().nullable().default(null).describe('the ComfyUI to ask; by default the one that runs'),
})

export const workflowRoutes = (box: Box) =>
  createRouter().openapi(
    route('read', {
      method: 'post',
      path: '/workflows/check',
      summary: 'Which nodes and models a ComfyUI workflow needs, and which are missing',
      request: { body: jsonBody(WorkflowText) },
      responses: { 200: json(WorkflowReport, 'What it needs') },
    }),
    async (c) => {
      const { workflow: text, file, process } = c.req.valid('json')
      const report = await box.processes.checkWorkflow({ text, file, process }, { signal: c.req.raw.signal })
      return c.json(report, 200)
    },
  )
