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
  const inner = part.slice(1, -1).replaceAll(/[\\\][]/g, String.raw`\$&`)
  return inner.startsWith('!') ? `[^${inner.slice(1)}]` : `[${inner.replace(/^\^/, String.raw`\^`)}]`
}
