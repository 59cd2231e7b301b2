/**
 * True for a path that one of the patterns of `include` matches (all when there are none) and none of `exclude`. As in
 * Hugging Face's own tools `*` also crosses folders, and a pattern that ends with a slash means everything in there.
 */
export const isWanted = (
  path: string,
  patterns: { readonly include: readonly string[]; readonly exclude: readonly string[] },
): boolean =>
  (patterns.include.length === 0 || patterns.include.some((one) => matches(path, one))) &&
  !patterns.exclude.some((one) => matches(path, one))

const matches = (path: string, pattern: string): boolean => {
  const whole = pattern.endsWith('/') ? `${pattern}*` : pattern
  const parts = whole.match(/\[!?\]?[^\]]*\]|\*+|[\s\S]/g) ?? []
  return new RegExp(`^${parts.map(toExpression).join('')}$`, 'su').test(path)
}

const toExpression = (part: string): string => {
  if (part.startsWith('*')) return '.*'
  if (part === '?') return '.'
  if (part.length === 1) return part.replace(/[\\^$.|+()[\]{}/]/g, String.raw`\$&`)
  const isNegated = part.startsWith('[!')
  const set = toSet(Array.from(part.slice(isNegated ? 2 : 1, -1)))
  return isNegated ? `[^${set}]` : `[${set}]`
}

/** Single characters and ranges; one that runs backwards holds nothing, where an expression would be refused. */
const toSet = (characters: readonly string[]): string => {
  const [first, dash, last] = characters
  if (first === undefined) return ''
  if (dash !== '-' || last === undefined) return quoted(first) + toSet(characters.slice(1))
  return (first <= last ? `${quoted(first)}-${quoted(last)}` : '') + toSet(characters.slice(3))
}

const quoted = (character: string): string => character.replace(/[\\\][^-]/, String.raw`\$&`)
