import type { Problem } from '../contract/errors.ts'
import type { HubKind } from '../sources/endpoints.ts'
import { parseSource } from '../sources/parse-source.ts'
import type { SourceFacts } from './source-facts.ts'

/** A problem, and what caused it where that may cause others: two files of one gated repository are one problem. */
export type CausedProblem = Problem & { cause?: string | undefined }

/** The secret that holds a hub's token. */
export const TOKEN_NAMES: Readonly<Record<HubKind, string>> = { hf: 'HF_TOKEN', civitai: 'CIVITAI_TOKEN' }

/** The cause of everything that a hub refuses because of the token itself. */
export const tokenCause = (kind: HubKind): string => `token ${kind}`

const OF_THE_TOKEN: readonly Problem['code'][] = ['gated', 'bad_token', 'login_required']
const OF_THE_REPOSITORY: readonly Problem['code'][] = [
  'gated',
  'repository_not_found',
  'repository_disabled',
  'revision_not_found',
]

/**
 * What is behind a refusal: the token where the hub does not take it, or the manifest requires one and there is none;
 * the server, where it says the same of everything; else the repository; undefined where only this one file is concerned.
 */
export const causeOf = (
  code: Problem['code'],
  context: {
    readonly reference: string
    /** What the refusal says of it. */
    readonly message: string
    readonly facts: Pick<SourceFacts, 'tokens'>
    /** Hubs whose token the manifest requires. */
    readonly requiredTokens: ReadonlySet<HubKind>
  },
): string | undefined => {
  if (code === 'source_unavailable')
    return `${code} ${serverOf(context.reference)} ${context.message.replace(`${context.reference}: `, '')}`
  const place = placeOf(context.reference)
  if (place === undefined) return undefined
  const token = context.facts.tokens.get(place.kind)?.state
  const isTokens = token === 'refused' || (token === 'absent' && context.requiredTokens.has(place.kind))
  if (isTokens && OF_THE_TOKEN.includes(code)) return tokenCause(place.kind)
  if (place.repository === null || !OF_THE_REPOSITORY.includes(code)) return undefined
  return `${code} ${place.repository}`
}

/** The hub of `hf://…`, the host of an address. */
const serverOf = (reference: string): string => /^https?:\/\/[^/]*|^\w+:/.exec(reference)?.[0] ?? reference

const placeOf = (
  reference: string,
): { readonly kind: HubKind; readonly repository: string | null } | undefined => {
  try {
    // A repository is read by the rules of a file in it.
    const parsed = parseSource(/^hf:\/\/[^/]+\/[^/]+$/.test(reference) ? `${reference}/any` : reference)
    if (parsed.kind === 'hf')
      return { kind: 'hf', repository: `${parsed.repoType} ${parsed.repo}@${parsed.revision}` }
    return parsed.kind === 'civitai' ? { kind: 'civitai', repository: null } : undefined
  } catch {
    // What is not a source at all is a cause of its own, and was told as such.
    return undefined
  }
}

/** One problem for each cause and severity, its other subjects in `subjects`. */
export const foldCauses = (problems: readonly CausedProblem[]): readonly Problem[] => {
  const groups = Map.groupBy(problems, ({ cause, severity }, index) =>
    cause === undefined ? `alone ${index}` : `${severity} ${cause}`,
  )
  return [...groups.values()].flatMap(([head, ...others]) => {
    if (head === undefined) return []
    const problem: CausedProblem = { ...head }
    delete problem.cause
    return [
      withSubjects(
        problem,
        others.map(({ subject }) => subject),
      ),
    ]
  })
}

/** The problem with more subjects, each once. */
export const withSubjects = (problem: Problem, more: readonly string[]): Problem => {
  const subjects = [...new Set([...(problem.subjects ?? []), ...more])].filter(
    (subject) => subject !== problem.subject,
  )
  return subjects.length === 0 ? problem : { ...problem, subjects }
}
