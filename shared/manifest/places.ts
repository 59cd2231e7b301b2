/** The way to a value: `['downloads', 0, 'to']`. */
export type ManifestPath = readonly (string | number)[]

/** Where `${NAME}` is replaced; `*` stands for any one key or index. */
export const INTERPOLATED = [
  'remotes.*.*',
  'notify.webhook',
  'processes.*.env.*',
  'secrets.files.*',
  'models_root',
  'hf_home',
  'downloads.*.to',
  'python.interpreter',
  'python.requirements.*',
  'processes.*.working_dir',
  'processes.*.workflows.*',
  'processes.*.variants.fallback',
  'processes.*.expect_outputs.path',
  'sync.*.path',
  'sync.*.to',
] as const

/** Where `${…}` is left as it is, because a shell or a regular expression of the user's may mean something by it. */
export const LEFT_AS_WRITTEN = [
  'processes.*.command.*',
  'processes.*.args.*',
  'processes.*.variants.command.*',
  'processes.*.ready.log',
  'budget.stop.command.*',
  'budget.stop.check.*',
] as const

/** Whether a path is one of these places. */
export const isPlace = (path: ManifestPath, places: readonly string[]): boolean =>
  places.some((place) => {
    const parts = place.split('.')
    return parts.length === path.length && parts.every((part, index) => part === '*' || part === path[index])
  })

/** `downloads[0].to`: a path as a person reads it. */
export const pathText = (path: ManifestPath): string =>
  path.reduce<string>(
    (text, part) => (typeof part === 'number' ? `${text}[${part}]` : text === '' ? part : `${text}.${part}`),
    '',
  )

/** A copy of plain data with every string replaced by what `change` makes of it. */
export const mapStrings = (
  value: unknown,
  change: (text: string, path: ManifestPath) => string,
  path: ManifestPath = [],
): unknown => {
  if (typeof value === 'string') return change(value, path)
  if (Array.isArray(value)) return value.map((item, index) => mapStrings(item, change, [...path, index]))
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, mapStrings(item, change, [...path, key])]),
  )
}

/** The value at a path of plain data, or undefined. */
export const valueAt = (value: unknown, path: ManifestPath): unknown =>
  path.reduce<unknown>(
    (current, part) =>
      Array.isArray(current) && typeof part === 'number'
        ? current[part]
        : isRecord(current) && Object.hasOwn(current, part)
          ? current[part]
          : undefined,
    value,
  )

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * What the user calls the thing a path lies in: the destination of a download, a package, the name of a process, a
 * sync or a remote; elsewhere the path itself.
 */
export const subjectOf = (value: unknown, path: ManifestPath): string => {
  const [section, second, third] = path
  const text = (place: ManifestPath, ...keys: string[]): string | undefined =>
    keys
      .map((key) => valueAt(value, [...place, key]))
      .find((found): found is string => typeof found === 'string')
  if ((section === 'processes' || section === 'remotes') && typeof second === 'string') return second
  if (section === 'python' && second === 'install' && third !== undefined)
    return text(['python', 'install', third], 'spec', 'git') ?? pathText(path.slice(0, 3))
  if (section === 'sync' && second !== undefined)
    return text(['sync', second], 'name') ?? pathText(path.slice(0, 2))
  if ((section === 'downloads' || section === 'custom_nodes') && second !== undefined)
    return text([section, second], 'to', 'snapshot', 'git') ?? pathText(path.slice(0, 2))
  return pathText(path)
}
