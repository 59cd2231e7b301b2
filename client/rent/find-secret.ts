import type { Environment } from '../command.ts'

const ALIASES: readonly (readonly string[])[] = [
  ['HF_TOKEN', 'HUGGINGFACE_HUB_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
  ['CIVITAI_TOKEN', 'CIVITAI_API_KEY'],
]

/** The value of a secret on this machine, under any of its names; an empty one counts as missing. */
export const findSecret = (name: string, environment: Environment): string | undefined =>
  [name, ...(ALIASES.find((group) => group.includes(name)) ?? [])]
    .map((one) => environment[one])
    .find(Boolean)
