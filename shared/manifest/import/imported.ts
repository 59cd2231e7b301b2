import type { z } from 'zod'
import { AgentError } from '../../contract/errors.ts'
import { DEFAULT_ENDPOINTS } from '../../sources/endpoints.ts'
import { formatSource, parseSource } from '../../sources/parse-source.ts'
import { looksSecret } from '../secret-patterns.ts'

/** Something of the old form that the manifest does not say, and why. */
export type LeftBehind = { readonly line: number | null; readonly what: string; readonly why: string }

/** One file, before it is known whether its name is a good one. */
export type ImportedFile = {
  readonly to: string
  readonly from: readonly string[]
  readonly sha256?: string
}

/** What an importer found, in the manifest's own words. */
export type Imported = {
  readonly files: readonly ImportedFile[]
  readonly snapshots: readonly string[]
  readonly nodes: readonly { readonly git: string; readonly ref: string }[]
  readonly secrets: { readonly required: readonly string[]; readonly optional: readonly string[] }
  readonly python: {
    readonly interpreter: string
    readonly requirements: readonly string[]
    readonly install: readonly string[]
  } | null
  readonly processes: Readonly<Record<string, unknown>>
  readonly leftBehind: readonly LeftBehind[]
}

/**
 * An address as the manifest writes it: files on Hugging Face and Civitai in their own short form, without tokens.
 * @throws AgentError bad_request for what is no address, or holds what only a shell can fill in
 */
export const importSource = (address: string): string => {
  const text = address.trim()
  if (/[$`]/.test(text)) throw new AgentError('bad_request', 'it holds a variable of the shell')
  if (!/^(https?|hf|civitai):\/\//.test(text)) throw new AgentError('bad_request', 'it is no address')
  const hub = text.replace(/^https:\/\/hf\.co\//, `${DEFAULT_ENDPOINTS.hf}/`)
  const source = formatSource(parseSource(hub))
  if (looksSecret(source)) throw new AgentError('bad_request', 'it holds a secret')
  return source
}

/** The last part of an address, as a file's name. */
export const nameOfSource = (source: string): string | undefined => {
  const path = source.replace(/[?#].*$/, '').split('/')
  const name = path.at(-1)
  return path.length > 3 && name !== undefined && /\.\w+$/.test(name) ? decode(name) : undefined
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** ComfyUI's folders under `models`, by what people call them. */
const FOLDERS: readonly (readonly [RegExp, string])[] = [
  [/lora/i, 'loras'],
  [/clip_?vision/i, 'clip_vision'],
  [/text_?encoder|clip/i, 'text_encoders'],
  [/control_?net/i, 'controlnet'],
  [/upscal|esrgan/i, 'upscale_models'],
  [/vae/i, 'vae'],
  [/embedding/i, 'embeddings'],
  [/unet|diffusion|video/i, 'diffusion_models'],
  [/checkpoint|ckpt/i, 'checkpoints'],
]

/** The folder that the name of a list or the path of a source speaks of; undefined when neither does. */
export const folderOf = (list: string | undefined, source: string): string | undefined => {
  const known = FOLDERS.map(([, folder]) => folder)
  const inPath = source.split('/').find((part) => known.includes(part))
  return inPath ?? FOLDERS.find(([name]) => list !== undefined && name.test(list))?.[1]
}

/** A file that looks like this form, and is not written as it is. */
export const notReadable = (form: string, error: z.ZodError): AgentError => {
  const [issue] = error.issues
  const place = issue?.path.join('.') ?? ''
  return new AgentError('bad_request', `this is not ${form}: ${place}: ${issue?.message ?? ''}`, {
    cause: error,
    hint: `Correct ${place} in it, or take it out.`,
  })
}
