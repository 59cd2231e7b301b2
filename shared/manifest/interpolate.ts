import { AgentError } from '../contract/errors.ts'

/** Where the value of a name comes from: secrets, then the environment. An empty value counts as missing. */
export type Lookup = (name: string) => string | undefined

const REFERENCE = /\$\$\{|\$\{([^}]*)\}?/g
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/**
 * Replaces every `${NAME}` of a text; `$${` stands for `${` itself.
 * @throws AgentError secret_missing with all names that have no value; never puts "" in their place
 */
export const interpolate = (text: string, lookup: Lookup): string => {
  const missing = findReferences(text).names.filter((name) => !lookup(name))
  if (missing.length > 0)
    throw new AgentError('secret_missing', `there is no value for ${missing.join(', ')}`, {
      hint: `Put it into the box: agentctl secret set ${missing[0] ?? 'NAME'}.`,
    })
  return text.replace(REFERENCE, (whole: string, name: string | undefined) =>
    name === undefined ? '${' : NAME.test(name) && whole.endsWith('}') ? (lookup(name) ?? whole) : whole,
  )
}

/** The names that a text refers to, each once, and what looks like a reference and is none (`${a-b}`, `${A`). */
export const findReferences = (
  text: string,
): { readonly names: readonly string[]; readonly malformed: readonly string[] } => {
  const names = new Set<string>()
  const malformed: string[] = []
  for (const [whole, name] of text.matchAll(REFERENCE)) {
    if (name === undefined) continue
    if (NAME.test(name) && whole.endsWith('}')) names.add(name)
    else malformed.push(whole)
  }
  return { names: [...names], malformed }
}
