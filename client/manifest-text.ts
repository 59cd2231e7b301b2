import { readFile, stat } from 'node:fs/promises'
import { AgentError } from '../shared/contract/errors.ts'
import type { ManifestText } from './api.ts'
import { readStandardInput } from './read-input.ts'

/** The agent refuses larger ones. */
const MAX_BYTES = 4 * 2 ** 20

/**
 * The text of a manifest, with the name the user gave for messages; `-` is standard input.
 * @throws AgentError usage
 */
export const readManifestText = async (file: string): Promise<ManifestText> => {
  if (file === '-') return { manifest: await readStandardInput(MAX_BYTES), file: 'standard input' }
  try {
    const { size } = await stat(file)
    if (size > MAX_BYTES) throw new Error(`${size} bytes are more than a manifest may have (${MAX_BYTES})`)
    return { manifest: await readFile(file, 'utf8'), file }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new AgentError('usage', `cannot read the manifest ${file}: ${why}`, {
      cause: error,
      hint: 'Give the path of a manifest that exists, or - for standard input.',
    })
  }
}
