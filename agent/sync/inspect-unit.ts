import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import { errnoOf } from '../platform/files.ts'
import { findFormatFault } from './check-format.ts'
import type { Unit } from './unit.ts'
import { pathInUnit } from './unit.ts'

/** What a look into a unit found: why it cannot be complete, or whether its framework says that it is. */
export type Inspection =
  | { readonly state: 'incomplete'; readonly reason: string }
  /** `marked`: something that is written last is there. Without it only quiet speaks for completeness. */
  | { readonly state: 'plausible'; readonly marked: boolean }

/** Markers that are there or not; trainer_state.json is one too, once its step is the folder's. */
const PLAIN_MARKERS: readonly string[] = ['.metadata', '.complete', '_SUCCESS']

const TRAINER_STATE = 'trainer_state.json'

export type InspectContext = {
  readonly spec: SyncSpec
  /** A pointer file that read the same at two looks names it. */
  readonly isPointedAt: boolean
  /** Faults by fingerprint, so that a file that did not change is not read again. */
  readonly formatFaults: Map<string, string | null>
}

/** Judges a unit by its names, its markers and the formats of its files. */
export const inspectUnit = async (unit: Unit, context: InspectContext): Promise<Inspection> => {
  const { spec } = context
  const incomplete = (reason: string): Inspection => ({ state: 'incomplete', reason })

  const temporary = unit.temporary[0]
  if (temporary !== undefined) return incomplete(`${pathInUnit(unit, temporary)} is still there`)
  const inFolder = (name: string): boolean => unit.present.has(`${unit.name}/${name}`)
  if (unit.kind === 'folder' && spec.complete_marker !== undefined && !inFolder(spec.complete_marker))
    return incomplete(`${spec.complete_marker} is missing`)
  // The trainer writes this one after everything else of a checkpoint, and training_args.bin with the weights.
  if (
    /^checkpoint-\d+$/.test(basename(unit.name)) &&
    inFolder('training_args.bin') &&
    !inFolder(TRAINER_STATE)
  )
    return incomplete(`${TRAINER_STATE} is missing`)

  const missing = await findMissingShard(unit, spec.path)
  if (missing !== undefined) return incomplete(missing)
  for (const file of unit.files) {
    const fault = await formatFault(join(spec.path, file.path), file.fingerprint, context)
    if (fault !== null) return incomplete(`${pathInUnit(unit, file.path)} ${fault}`)
  }

  if (unit.kind === 'folder' && inFolder(TRAINER_STATE)) {
    // Any JSON is whole, whether it tells its step or not.
    const state = await readJson(join(spec.path, unit.name, TRAINER_STATE))
    if (state === undefined) return incomplete(`${TRAINER_STATE} is not whole`)
    if (isObject(state) && state['global_step'] === stepOf(unit.name))
      return { state: 'plausible', marked: true }
  }
  const marked =
    PLAIN_MARKERS.some(inFolder) ||
    (spec.complete_marker !== undefined && inFolder(spec.complete_marker)) ||
    context.isPointedAt
  return { state: 'plausible', marked }
}

/** The number that a checkpoint's name ends with: 500 of `checkpoint-500`. */
export const stepOf = (name: string): number | undefined => {
  const digits = /(\d+)(?:\.\w+)?$/.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

const formatFault = async (
  path: string,
  fingerprint: string,
  context: InspectContext,
): Promise<string | null> => {
  const known = context.formatFaults.get(fingerprint)
  if (known !== undefined) return known
  try {
    const fault = (await findFormatFault(path)) ?? null
    context.formatFaults.set(fingerprint, fault)
    return fault
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'was removed'
    throw error
  }
}

const findMissingShard = async (unit: Unit, root: string): Promise<string | undefined> => {
  for (const path of unit.present) {
    if (!path.endsWith('.index.json')) continue
    const index = await readJson(join(root, path))
    if (index === undefined) return `${pathInUnit(unit, path)} is not whole`
    const weights = isObject(index) && isObject(index['weight_map']) ? index['weight_map'] : {}
    for (const shard of new Set(Object.values(weights).map(String))) {
      const wanted = unit.kind === 'file' ? shard : `${dirname(path)}/${shard}`
      if (unit.kind !== 'file' && !unit.present.has(wanted))
        return `${pathInUnit(unit, wanted)} is missing, ${basename(path)} lists it`
    }
  }
  return undefined
}

/** undefined: torn or gone. Python writes NaN and Infinity, which are not JSON. */
const readJson = async (path: string): Promise<unknown> => {
  try {
    return JSON.parse((await readFile(path, 'utf8')).replaceAll(/\bNaN\b|-?\bInfinity\b/g, 'null'))
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null
