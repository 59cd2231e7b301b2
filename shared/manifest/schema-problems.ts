import type { z } from 'zod'
import type { ErrorCode } from '../contract/errors.ts'
import { isErrorCode } from '../contract/errors.ts'
import { nearestKey } from './nearest-key.ts'
import type { ManifestPath } from './places.ts'
import { isRecord, pathText, valueAt } from './places.ts'
import { chooseIndex, knownKeysAt } from './schema-walk.ts'
import { Manifest } from './schema.ts'
import { quote } from './secret-patterns.ts'

/** Something wrong at a place of the manifest; `onKey` when the key itself is wrong. */
export type Finding = {
  readonly code: ErrorCode
  readonly path: ManifestPath
  readonly onKey?: boolean
  /** The message names the line too. */
  readonly namesLine?: boolean
  readonly message: string
  readonly hint: string
}

/** What the schema found, in the user's words, and the manifest when it found nothing. */
export const checkSchema = (
  value: unknown,
): { manifest: Manifest | undefined; findings: readonly Finding[] } => {
  const result = Manifest.safeParse(value)
  if (result.success) return { manifest: result.data, findings: [] }
  const findings = result.error.issues.flatMap((issue) => explain(issue, { value, base: [] }))
  return { manifest: undefined, findings: withoutMistyped(findings) }
}

type Issue = z.core.$ZodIssue
type Context = { readonly value: unknown; readonly base: ManifestPath }
type Explained = Finding & { readonly missing?: boolean; readonly meant?: string | undefined }

const explain = (issue: Issue, context: Context): readonly Explained[] => {
  const path = [
    ...context.base,
    ...issue.path.map((part) => (typeof part === 'number' ? part : String(part))),
  ]
  const found = valueAt(context.value, path)
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownKey([...path, key], context.value))
  if (issue.code === 'invalid_union' && issue.errors.length > 0 && isRecord(found))
    return explainOption(issue, { value: context.value, base: path })
  if (issue.code === 'invalid_key') {
    const key = String(path.at(-1))
    const words = issue.issues[0]?.message ?? 'is not a name'
    return [{ ...finding(`the key ${quote(key)}`, words, path), onKey: true }]
  }
  if (found === undefined && isTypeIssue(issue)) return [missingKey(path)]
  const secretPlace = ['secrets', 'remotes', 'notify'].includes(String(path[0])) || path[2] === 'env'
  const shown = isPlain(found) && found !== '' && !secretPlace && !isOfZod(issue) ? ` ${quote(found)}` : ''
  const code: unknown = issue.code === 'custom' ? issue.params?.['code'] : undefined
  return [
    {
      ...finding(`${pathText(path) || 'the manifest'}${shown}`, words(issue, found), path),
      ...(typeof code === 'string' && isErrorCode(code) ? { code } : {}),
    },
  ]
}

const finding = (what: string, text: string, path: ManifestPath): Explained => {
  const [said, hint] = text.split(/; (.*)/s)
  const advice =
    hint === undefined ? 'Correct this value.' : `${hint[0]?.toUpperCase() ?? ''}${hint.slice(1)}.`
  return { code: 'invalid_manifest', path, message: `${what} ${said ?? text}`, hint: advice }
}

/** A union of things with keys: what is wrong with the one that was meant. */
const explainOption = (issue: Issue & { code: 'invalid_union' }, context: Context): readonly Explained[] => {
  const options = UNIONS[context.base[0] === 'python' ? 'install' : 'downloads']
  const index = chooseIndex(options, valueAt(context.value, context.base))
  return (issue.errors[index] ?? []).flatMap((one) => explain(one, context))
}

const UNIONS = {
  downloads: Manifest.shape.downloads.unwrap().element.options,
  install: Manifest.shape.python.unwrap().shape.install.unwrap().element.options,
} as const

const unknownKey = (path: ManifestPath, value: unknown): Explained => {
  const key = String(path.at(-1))
  const place = path.slice(0, -1)
  const known = knownKeysAt(Manifest, value, place)
  const meant = nearestKey(key, known)
  const where = place.length === 0 ? '' : ` in ${pathText(place)}`
  const old = place.length === 0 && PROVISIONING_KEYS.includes(key)
  return {
    code: 'invalid_manifest',
    path,
    onKey: true,
    namesLine: true,
    meant,
    message: `unknown key ${quote(key)}${where}`,
    hint: old
      ? 'This is a key of the provisioning format: write it as downloads, python.install and custom_nodes.'
      : meant === undefined
        ? `Known here: ${known.join(', ')}.`
        : `Did you mean “${meant}”?`,
  }
}

/** Root keys of the provisioning files of the Vast.ai base image. */
const PROVISIONING_KEYS = [
  'git_repos',
  'pip_packages',
  'apt_packages',
  'conda_packages',
  'settings',
  'services',
]

const missingKey = (path: ManifestPath): Explained => {
  const key = String(path.at(-1))
  const place = path.slice(0, -1)
  return {
    code: 'invalid_manifest',
    path,
    missing: true,
    meant: key,
    message: place.length === 0 ? `the key “${key}” is missing` : `${pathText(place)} has no “${key}”`,
    hint: key === 'kind' ? 'Write kind: comfyui, cosmos or command.' : `Write “${key}: …”.`,
  }
}

/** A mistyped required key is one mistake, not two. */
const withoutMistyped = (findings: readonly Explained[]): readonly Finding[] =>
  findings.filter(
    (one) =>
      one.missing !== true ||
      !findings.some(
        (other) =>
          other.onKey === true &&
          other.meant === one.meant &&
          pathText(other.path.slice(0, -1)) === pathText(one.path.slice(0, -1)),
      ),
  )

const isTypeIssue = (issue: Issue): boolean =>
  issue.code === 'invalid_type' || issue.code === 'invalid_union' || issue.code === 'invalid_value'

/** A message that zod wrote, not the schema. */
const isOfZod = ({ message, code }: Issue): boolean =>
  code !== 'invalid_value' &&
  !message.startsWith('Invalid discriminator') &&
  /^(Invalid|Too|Unrecognized)/.test(message)

const isPlain = (value: unknown): boolean =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'

/** A message of ours as it is; one of zod's in our words. */
const words = (issue: Issue, found: unknown): string => {
  if (found === null) return 'is empty; write a value, or take the key out'
  const choices =
    issue.code === 'invalid_value'
      ? issue.values.map(String)
      : issue.code === 'invalid_union' && 'options' in issue && Array.isArray(issue.options)
        ? issue.options.map(String)
        : undefined
  if (choices !== undefined && choices.length > 1) {
    const meant = typeof found === 'string' ? nearestKey(found, choices) : undefined
    const all = `${choices.slice(0, -1).join(', ')} or ${choices.at(-1) ?? ''}`
    return `is not one of them; write ${all}${meant === undefined ? '' : ` (did you mean “${meant}”?)`}`
  }
  if (!isOfZod(issue)) return issue.message
  const expected = issue.code === 'invalid_type' ? issue.expected : 'object'
  if (expected === 'string' && (typeof found === 'number' || typeof found === 'boolean'))
    return `is ${typeName(found)}, but text is wanted; put it in quotes`
  return `is ${typeName(found)}, but ${EXPECTED[expected] ?? expected} is wanted; write ${EXPECTED[expected] ?? expected}`
}

const EXPECTED: Readonly<Partial<Record<string, string>>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of keys',
  record: 'a map of keys',
}

const typeName = (value: unknown): string => {
  if (Array.isArray(value)) return 'a list'
  if (isRecord(value)) return 'a map of keys'
  return typeof value === 'string' ? 'text' : typeof value === 'number' ? 'a number' : 'true or false'
}
