import { createHash } from 'node:crypto'
import type { Problem } from '../contract/errors.ts'
import { AgentError } from '../contract/errors.ts'
import { checkReferences } from './check-references.ts'
import { checkSecrets } from './check-secrets.ts'
import type { ManifestPath } from './places.ts'
import { isRecord, pathText, subjectOf } from './places.ts'
import { readYaml } from './read-yaml.ts'
import type { Finding } from './schema-problems.ts'
import { checkSchema } from './schema-problems.ts'
import type { Checked } from './salvage.ts'
import { salvage } from './salvage.ts'
import type { Manifest } from './schema.ts'
import { hideSecrets } from './secret-patterns.ts'
import type { YamlProblem } from './yaml-text.ts'
import { decodeManifest } from './yaml-text.ts'

export type ParsedManifest = {
  readonly manifest: Manifest
  /** SHA-256 of the text, hexadecimal: the identity of what was applied. */
  readonly digest: string
  /** Where a value stands in the file; for what is absent, the nearest thing that should hold it. */
  readonly at: (path: ManifestPath) => NonNullable<Problem['at']>
}

/** More than this nobody reads; the message tells the whole number. */
const MAX_PROBLEMS = 200

/**
 * Reads a manifest: YAML 1.2, the schema, and what a schema cannot see.
 * @throws AgentError invalid_manifest; its `problems` are all that is wrong, in the order of the lines
 */
export const parseManifest = (
  input: string | Uint8Array,
  { file }: { readonly file: string },
): ParsedManifest => {
  const { problems, ...parsed } = parseWhatHolds(input, { file })
  if (problems.length > 0) throw refusal(file, problems)
  return parsed
}

/**
 * Reads a manifest and goes on past its mistakes: what is left of it when they are taken out, so that a plan can tell of
 * its sources in the same run.
 * @throws AgentError invalid_manifest when nothing is left, or the text is no YAML
 */
export const parseWhatHolds = (
  input: string | Uint8Array,
  { file }: { readonly file: string },
): ParsedManifest & { readonly problems: readonly Problem[] } => {
  const text = decodeManifest(input)
  if (typeof text !== 'string') throw refusal(file, [fromYaml(text, file)])
  const yaml = readYaml(text)
  if (yaml.problems.length > 0) {
    // One slip makes the parser stumble several times; the first stumble of a line is the one to read.
    const first = new Map(yaml.problems.toReversed().map((problem) => [problem.line, problem]))
    throw refusal(
      file,
      [...first.values()].map((problem) => fromYaml(problem, file)),
    )
  }
  if (!isRecord(yaml.value)) throw refusal(file, [fromYaml(notAMap(yaml.value), file)])

  const { value } = yaml
  const { findings } = checkAll(value)
  const problems = findings.map((finding): Problem => {
    const { path, code, onKey } = finding
    const at = { file, ...(onKey === true ? yaml.atKey(path) : yaml.at(path)) }
    const subject = hideSecrets(subjectOf(value, path) || file)
    const line = finding.namesLine === true ? ` (line ${at.line})` : ''
    const message = hideSecrets(finding.message) + line
    return { code, severity: 'error', subject, at, message, hint: hideSecrets(finding.hint) }
  })
  const salvaged = salvage(value, checkAll)
  if (salvaged === undefined) throw refusal(file, problems)
  return {
    manifest: salvaged.manifest,
    digest: createHash('sha256').update(input).digest('hex'),
    at: (path) => ({ file, ...yaml.at(salvaged.originalPath(path)) }),
    problems,
  }
}

/** What the schema says, and what it cannot see. */
const checkAll = (value: Readonly<Record<string, unknown>>): Checked => {
  const { manifest, findings } = checkSchema(value)
  return { manifest, findings: mergeFindings(findings, [...checkSecrets(value), ...checkReferences(value)]) }
}

/** One place, one problem: a secret before everything, then what the schema says; a wrong key is a thing of its own. */
const mergeFindings = (bySchema: readonly Finding[], byOthers: readonly Finding[]): readonly Finding[] => {
  const secrets = byOthers.filter(({ code }) => code === 'secret_in_manifest')
  const secretPlaces = new Set(secrets.map(({ path }) => pathText(path)))
  const first = [
    ...secrets,
    ...bySchema.filter(({ path, onKey }) => onKey === true || !secretPlaces.has(pathText(path))),
  ]
  const taken = new Set(first.map(({ path }) => pathText(path)))
  return [...first, ...byOthers.filter(({ path }) => !taken.has(pathText(path)))]
}

const notAMap = (value: unknown): YamlProblem =>
  value === null || value === undefined
    ? { line: 1, column: 1, message: 'the manifest is empty', hint: 'Start with version: 1 and a name.' }
    : {
        line: 1,
        column: 1,
        message: `the manifest is ${Array.isArray(value) ? 'a list' : 'plain text'}, but a map of keys is wanted`,
        hint: 'Start with version: 1. A list of addresses goes under downloads, each with to and from.',
      }

const fromYaml = ({ line, column, message, hint }: YamlProblem, file: string): Problem => ({
  code: 'invalid_manifest',
  severity: 'error',
  subject: file,
  at: { file, line, column },
  message: hideSecrets(message),
  hint,
})

/** The refusal of a manifest with all that is wrong with it, in the order of the lines. */
export const refusal = (file: string, problems: readonly Problem[]): AgentError => {
  const sorted = problems.toSorted(
    (a, b) => (a.at?.line ?? 0) - (b.at?.line ?? 0) || (a.at?.column ?? 0) - (b.at?.column ?? 0),
  )
  const [first] = sorted
  const place = `${file}:${first?.at?.line ?? 1}:${first?.at?.column ?? 1}: ${first?.message ?? ''}`
  return new AgentError(
    'invalid_manifest',
    sorted.length === 1 ? place : `${file} has ${sorted.length} problems; the first: ${place}`,
    {
      problems: sorted.slice(0, MAX_PROBLEMS),
      ...(sorted.length === 1 && first ? { hint: first.hint } : {}),
    },
  )
}
