import { z } from 'zod'
import { Manifest } from './schema.ts'

/** The manifest as JSON Schema 2020-12, generated from the schema that the agent checks with: editors complete by it. */
export const manifestJsonSchema = (): Readonly<Record<string, unknown>> => {
  const { $schema, ...schema } = z.toJSONSchema(Manifest, { target: 'draft-2020-12', io: 'input' })
  return {
    $schema,
    $id: 'urn:gpu-agent:manifest:1',
    title: 'gpu-agent manifest, version 1',
    description: 'What a GPU box should be: its downloads, Python packages, processes, copies and budget.',
    ...schema,
  }
}
