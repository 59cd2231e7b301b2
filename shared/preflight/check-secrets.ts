import { AgentError, problemFrom } from '../contract/errors.ts'
import type { Problem } from '../contract/errors.ts'
import type { Manifest } from '../manifest/schema.ts'
import type { HubKind } from '../sources/endpoints.ts'
import { TOKEN_NAMES } from './caused-problem.ts'
import type { SourceFacts } from './source-facts.ts'

/** Where the values are looked for: the box, or the machine that `plan --local` runs on. */
export type SecretPlace = {
  /** `the box`, `this machine`: begins a sentence after “on”. */
  readonly name: string
  readonly hintFor: (secret: string) => string
}

export const ON_THE_BOX: SecretPlace = {
  name: 'the box',
  hintFor: (secret) => `Put it into the box: agentctl secret set ${secret}.`,
}

/**
 * Incident A1: secrets that the manifest declares or takes a value from, and that are not there. One problem a name,
 * with everything that needs it.
 */
export const checkSecrets = (
  manifest: Manifest,
  context: {
    readonly place: SecretPlace
    readonly present: ReadonlySet<string>
    /** Names without a value → the things that need them. */
    readonly neededBy: ReadonlyMap<string, readonly string[]>
  },
): readonly Problem[] => {
  const { required, optional } = manifest.secrets
  const { place, present, neededBy } = context
  const names = new Set([...required, ...neededBy.keys(), ...optional])
  return [...names].flatMap((name) => {
    if (present.has(name)) return []
    const subjects = neededBy.get(name) ?? []
    const isOptional = subjects.length === 0 && !required.includes(name)
    const message = isOptional
      ? `the optional secret ${name} is not on ${place.name}`
      : `${place.name} does not have ${name}${subjects.length === 0 ? ', which is required' : ` and ${need(subjects)} it`}`
    const error = new AgentError('secret_missing', message, { hint: place.hintFor(name) })
    const problem = problemFrom(error, name, isOptional ? 'warning' : 'error')
    return [subjects.length === 0 ? problem : { ...problem, subjects }]
  })
}

/** Tokens that their hub does not accept: an error where something needs one, or where the manifest requires it. */
export const checkTokens = (
  facts: Pick<SourceFacts, 'tokens'>,
  context: {
    readonly required: readonly string[]
    readonly neededBy: ReadonlyMap<HubKind, readonly string[]>
    /** Hubs whose token something needs that is not optional. */
    readonly indispensable: ReadonlySet<HubKind>
  },
): readonly Problem[] =>
  [...facts.tokens].flatMap(([kind, fact]) => {
    if (fact.state !== 'refused') return []
    const subject = TOKEN_NAMES[kind]
    const subjects = context.neededBy.get(kind) ?? []
    const isError = context.indispensable.has(kind) || context.required.includes(subject)
    const told = subjects.length === 0 ? '' : `; ${need(subjects)} it`
    return [
      {
        ...fact.problem,
        message: fact.problem.message + told,
        subject,
        severity: isError ? ('error' as const) : ('warning' as const),
        ...(subjects.length === 0 ? {} : { subjects }),
      },
    ]
  })

/** More names than this are in `subjects`, not in the sentence. */
const NAMED = 4

const need = (subjects: readonly string[]): string => {
  const more = subjects.length - NAMED
  const named = subjects.slice(0, NAMED).join(', ')
  if (more > 0) return `${named} and ${more} more need`
  return `${named} ${subjects.length > 1 ? 'need' : 'needs'}`
}
