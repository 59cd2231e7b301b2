import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'

/** One secret under several names: whoever sets one of them means all. */
const ALIASES: readonly (readonly string[])[] = [
  ['HF_TOKEN', 'HUGGINGFACE_HUB_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
  ['CIVITAI_TOKEN', 'CIVITAI_API_KEY'],
]

export type Secrets = {
  /** The value, or undefined; an empty value counts as missing. */
  get(name: string): string | undefined
  /** Takes every known secret value out of a text, and what looks like a hub's token. */
  redact(text: string): string
  /** Names the agent must treat as secret from now on: their values are redacted everywhere. */
  declare(names: readonly string[]): void
}

/**
 * Secrets of the box, in this order: the agent's environment, the secrets file, the environment of PID 1 (Vast.ai
 * and RunPod put them there, where ssh sessions do not see them).
 */
export const readSecrets = (
  environment: Readonly<Record<string, string | undefined>>,
  files: readonly string[],
  initEnvironment: string = '/proc/1/environ',
): Secrets => {
  const layers = [
    () => environment,
    ...files.map((file) => () => readEnvFile(file)),
    () => readProcEnviron(initEnvironment),
  ]
  const declared = new Set<string>(ALIASES.flat())

  const get = (name: string): string | undefined => {
    const names = ALIASES.find((group) => group.includes(name)) ?? [name]
    for (const layer of layers) {
      const values = layer()
      for (const one of [name, ...names]) if (values[one]) return values[one]
    }
    return undefined
  }

  return {
    get,
    declare: (names) => names.forEach((name) => declared.add(name)),
    redact: (text) => {
      let clean = text
      for (const name of declared) {
        const value = get(name)
        if (value !== undefined && value.length >= 6) clean = clean.replaceAll(value, `[${name}]`)
      }
      return clean
        .replace(/\bhf_[A-Za-z0-9]{16,}/g, '[hf token]')
        .replace(
          /([?&](?:token|auth|key|code|state|sig|signature|x-amz-[a-z-]+)=)[^&\s"']+/gi,
          '$1[redacted]',
        )
        .replace(/(authorization["']?\s*[:=]\s*["']?(?:bearer|basic)\s+)[^\s"',]+/gi, '$1[redacted]')
    },
  }
}

const readEnvFile = (file: string): Readonly<Record<string, string | undefined>> => {
  try {
    return parseEnv(readFileSync(file, 'utf8'))
  } catch {
    // A box without a secrets file is the usual case; a missing secret is reported by name at plan time.
    return {}
  }
}

const readProcEnviron = (file: string): Readonly<Record<string, string | undefined>> => {
  try {
    const pairs = readFileSync(file, 'utf8').split('\0')
    return Object.fromEntries(
      pairs
        .filter((pair) => pair.includes('='))
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    )
  } catch {
    // Another user's PID 1 cannot be read; the other two places remain.
    return {}
  }
}
