import { z } from 'zod'
import { nearestKey } from './nearest-key.ts'
import type { ManifestPath } from './places.ts'
import { isRecord, valueAt } from './places.ts'

/** The keys that are known at a place of the value, the choice in a union made by what the value says there. */
export const knownKeysAt = (
  schema: z.core.$ZodType,
  value: unknown,
  path: ManifestPath,
): readonly string[] => {
  let current: z.core.$ZodType | undefined = schema
  for (let depth = 0; depth <= path.length; depth += 1) {
    current = chooseOption(unwrap(current), valueAt(value, path.slice(0, depth)))
    const part = path[depth]
    if (part === undefined) break
    if (current instanceof z.ZodObject) current = current.shape[part] as z.core.$ZodType | undefined
    else if (current instanceof z.ZodArray) current = current.element
    else if (current instanceof z.ZodRecord) current = current.valueType
    else return []
    if (current === undefined) return []
  }
  return current instanceof z.ZodObject ? Object.keys(current.shape) : []
}

/**
 * The option of a union that a value means: by its kind, else the last whose first key is there (a download with
 * `snapshot` is a snapshot), else the one whose keys come nearest.
 */
export const chooseIndex = (options: readonly z.core.$ZodType[], value: unknown): number => {
  if (!isRecord(value)) return 0
  const shapes = options.map((option) => (option instanceof z.ZodObject ? option.shape : {}))
  const kind = shapes.findIndex(({ kind }) => kind instanceof z.ZodLiteral && kind.value === value['kind'])
  if (kind !== -1) return kind
  const marked = shapes.findLastIndex((shape) => Object.hasOwn(value, Object.keys(shape)[0] ?? ''))
  if (marked !== -1 && !('kind' in (shapes[0] ?? {}))) return marked
  const scores = shapes.map((shape) => {
    const known = Object.keys(shape)
    // A mistyped key says less than a right one, and more than a strange one.
    const weigh = (key: string): number =>
      known.includes(key) ? 2 : nearestKey(key, known) === undefined ? 0 : 1
    return Object.keys(value).reduce((score, key) => score + weigh(key), 0)
  })
  return scores.indexOf(Math.max(...scores))
}

const chooseOption = (schema: z.core.$ZodType, value: unknown): z.core.$ZodType =>
  schema instanceof z.ZodUnion ? unwrap(schema.options[chooseIndex(schema.options, value)] ?? schema) : schema

const unwrap = (schema: z.core.$ZodType): z.core.$ZodType => {
  let current = schema
  for (;;) {
    if (
      current instanceof z.ZodOptional ||
      current instanceof z.ZodDefault ||
      current instanceof z.ZodPrefault
    )
      current = current.def.innerType
    else if (current instanceof z.ZodPipe) current = current.def.in
    else return current
  }
}
