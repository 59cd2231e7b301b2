import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { namesOfSecret, SECRET_ALIASES } from '../../shared/secret-names.ts'

export type Secrets = {
  /** The value, or undefined; an empty value counts as missing. */
  readonly get: (name: string) => string | undefined
  /** Takes every known secret value out of a text, and what looks like a hub's token. */
  readonly redact: (text: string) => string
  /** Every declared secret that has a value here, for the search that finds them where they do not belong. */
  readonly known: () => readonly { readonly name: string; readonly value: string }[]
  /** Names the agent must treat as secret from now on: their values are redacted everywhere. */
  readonly declare: (names: readonly string[]) => void
}

/**
 * Secrets of the box, in this order: what was set by name (`agentctl secret set`, which renews what a box was created
 * with), the agent's environment, the secrets file, the environment of PID 1 (Vast.ai and RunPod put them there, where ssh
 * sessions do not see them).
 */
export const readSecrets = (
  environment: Readonly<Record<string, string | undefined>>,
  files: { readonly set?: string; readonly secrets: string },
  initEnvironment: string = '/proc/1/environ',
): Secrets => {
  const layers = [
    () => (files.set === undefined ? {} : readEnvFile(files.set)),
    () => environment,
    () => readEnvFile(files.secrets),
    () => readProcEnviron(initEnvironment),
  ]
  const declared = new Set<string>(SECRET_ALIASES.flat())

  const find = (name: string, values: readonly Values[]): string | undefined => {
    for (const layer of values) for (const one of namesOfSecret(name)) if (layer[one]) return layer[one]
    return undefined
  }
  // Files are read each time: a secret that is set while the agent runs counts at once.
  const readLayers = (): readonly Values[] => layers.map((layer) => layer())

  return {
    get: (name) => find(name, readLayers()),
    known: () => {
      const values = readLayers()
      return [...declared]
        .map((name) => ({ name, value: find(name, values) ?? '' }))
        .filter(({ value }, index, all) => {
          const first = all.findIndex((other) => other.value === value)
          return value.length >= SHORTEST_SECRET && first === index
        })
    },
    declare: (names) => names.forEach((name) => declared.add(name)),
    redact: (text) => {
      const values = readLayers()
      return redactPatterns(
        redactValues(
          text,
          [...declared].map((name) => ({ name, value: find(name, values) ?? '' })),
        ),
      )
    },
  }
}

type Values = Readonly<Record<string, string | undefined>>

/** Shorter values are no secrets, and taking them out would leave holes in ordinary words. */
const SHORTEST_SECRET = 6

/**
 * Takes values out as they are and as they stand in JSON and in addresses. The longest first: a short secret inside a
 * long one would leave the rest of the long one readable.
 */
const redactValues = (text: string, secrets: readonly { name: string; value: string }[]): string =>
  secrets
    .filter(({ value }) => value.length >= SHORTEST_SECRET)
    .flatMap(({ name, value }) =>
      [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)].map((form) => ({ name, form })),
    )
    .toSorted((a, b) => b.form.length - a.form.length)
    .reduce((clean, { name, form }) => clean.replaceAll(form, () => `[${name}]`), text)

/** Takes out what looks like a secret wherever it came from. A backslash ends a value: it may escape a quote of JSON. */
const redactPatterns = (text: string): string =>
  text
    .replace(/\bhf_[A-Za-z0-9]{16,}/g, '[hf token]')
    .replace(/([?&](?:token|auth|key|code|state|sig|signature|x-amz-[a-z-]+)=)[^&\s"'\\]+/gi, '$1[redacted]')
    .replace(/(authorization\\?["']?\s*[:=]\s*\\?["']?(?:bearer|basic)\s+)[^\s"',\\]+/gi, '$1[redacted]')

const readEnvFile = (file: string): Values => {
  try {
    return parseEnv(readFileSync(file, 'utf8'))
  } catch {
    // A box without a secrets file is the usual case; a missing secret is reported by name at plan time.
    return {}
  }
}

const readProcEnviron = (file: string): Values => {
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
