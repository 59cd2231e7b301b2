import { basename, extname } from 'node:path'
import { FRAMEWORK_MARKERS, isNamedCheckpoint } from './is-checkpoint.ts'
import type { Unit } from './unit.ts'
import { WEIGHTS } from './unit.ts'

/** What lies in one folder, by full paths relative to the sync's path. */
export type Found = {
  readonly paths: readonly string[]
  readonly present: readonly string[]
  readonly temporary: readonly string[]
  readonly refused: readonly string[]
}

/** One folder: what lies in it directly, and the folders in it. */
export type Branch = { readonly path: string; readonly own: Found; readonly children: readonly Branch[] }

/** A part of a folder that is copied as one. */
export type Part = Pick<Unit, 'name' | 'kind'> & { readonly found: Found }

/**
 * A folder directly under the sync's path as units: as one, or, where checkpoints can be told in it (`run-1` with
 * `checkpoint-100` and `checkpoint-200`), each checkpoint by itself and the rest together. As one unit a run would
 * never be complete, since it is written to until the training ends.
 *
 * A folder is a checkpoint by its name (`checkpoint-100`, `step_100`, `global_step100`, `iter_0000100`, a number in
 * `checkpoints/`), by the complete_marker in it, or, where no checkpoint is inside, by a framework's marker. What is in
 * a checkpoint is never split again. A file of weights directly in `checkpoints/` or `weights/` is a unit too.
 */
export const splitFolder = (branch: Branch, completeMarker: string | undefined): readonly Part[] => {
  const { parts, rest } = split(branch, { completeMarker, isTop: true })
  if (parts.length === 0) return [{ name: branch.path, kind: 'folder', found: rest }]
  const isEmpty = rest.present.length + rest.temporary.length + rest.refused.length === 0
  return isEmpty ? parts : [...parts, { name: branch.path, kind: 'rest', found: rest }]
}

const FOLDERS_OF_FILES: readonly string[] = ['checkpoints', 'weights']

type Split = { readonly parts: readonly Part[]; readonly rest: Found }

const split = (
  branch: Branch,
  context: { readonly completeMarker: string | undefined; readonly isTop: boolean },
): Split => {
  const { completeMarker, isTop } = context
  const { path, own, children } = branch
  const whole = (): Split => ({
    parts: [{ name: path, kind: 'folder', found: merge(branch) }],
    rest: NOTHING,
  })
  if (isNamedCheckpoint(path) || (completeMarker !== undefined && hasFile(branch, completeMarker)))
    return whole()
  const inside = children.map((child) => split(child, { completeMarker, isTop: false }))
  const nested = inside.flatMap(({ parts }) => parts)
  if (nested.length === 0 && !isTop && FRAMEWORK_MARKERS.some((marker) => hasFile(branch, marker)))
    return whole()
  // With a marker of the user's own a file alone cannot be told to be complete.
  const isFile = (name: string): boolean =>
    completeMarker === undefined &&
    FOLDERS_OF_FILES.includes(basename(path)) &&
    WEIGHTS.includes(extname(name).toLowerCase())
  const files = own.paths
    .filter(isFile)
    .map((name): Part => ({ name, kind: 'file', found: { ...NOTHING, paths: [name], present: [name] } }))
  const remaining = {
    ...own,
    paths: own.paths.filter((name) => !isFile(name)),
    present: own.present.filter((name) => !isFile(name)),
  }
  return { parts: [...files, ...nested], rest: join([remaining, ...inside.map(({ rest }) => rest)]) }
}

const hasFile = (branch: Branch, name: string): boolean => {
  const wanted = `${branch.path}/${name}`
  const holds = ({ own, children }: Branch): boolean =>
    own.present.includes(wanted) ||
    children.some((child) => wanted.startsWith(`${child.path}/`) && holds(child))
  return holds(branch)
}

const merge = (branch: Branch): Found => join([branch.own, ...branch.children.map(merge)])

const NOTHING: Found = { paths: [], present: [], temporary: [], refused: [] }

const join = (all: readonly Found[]): Found => ({
  paths: all.flatMap(({ paths }) => paths),
  present: all.flatMap(({ present }) => present),
  temporary: all.flatMap(({ temporary }) => temporary),
  refused: all.flatMap(({ refused }) => refused),
})
