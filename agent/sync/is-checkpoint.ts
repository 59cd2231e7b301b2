import { basename, extname } from 'node:path'
import type { Unit } from './unit.ts'
import { POINTER_FILES, WEIGHTS } from './unit.ts'

const CHECKPOINT_NAME = /^(checkpoint|ckpt|(global[-_]?)?step|epoch|iter(ation)?)[-_=]?\d+/i

/** Written last by a framework. trainer_state.json and `latest` also lie beside checkpoints, so they count last. */
export const FRAMEWORK_MARKERS: readonly string[] = [
  '.metadata',
  '.complete',
  '_SUCCESS',
  'trainer_state.json',
]

/** `checkpoint-100`, `step_100`, `global_step100`, `epoch=3`, `iter_0000100`, a number in `checkpoints/`. */
export const isNamedCheckpoint = (path: string): boolean =>
  CHECKPOINT_NAME.test(basename(path)) || /(^|\/)checkpoints\/\d+$/.test(path)

type Judged = Pick<Unit, 'name' | 'kind' | 'present'>

/** True for what `latest` may mean: a checkpoint by all signs, a folder with weights in it, a single file of weights. */
export const isCheckpoint = (unit: Judged, completeMarker?: string): boolean =>
  isCertainCheckpoint(unit, completeMarker) || (unit.kind === 'folder' && [...unit.present].some(isWeights))

/**
 * True for what may be removed here once its copy is proven: a single file of weights, or a folder that is a checkpoint
 * by its name or by a marker. A base model or a dataset beside the checkpoints is neither.
 */
export const isCertainCheckpoint = ({ name, kind, present }: Judged, completeMarker?: string): boolean => {
  switch (kind) {
    case 'rest':
      return false
    case 'file':
      return !POINTER_FILES.includes(name) && isWeights(name)
    case 'folder':
      return (
        isNamedCheckpoint(name) ||
        [...FRAMEWORK_MARKERS, ...(completeMarker === undefined ? [] : [completeMarker])].some((marker) =>
          present.has(`${name}/${marker}`),
        )
      )
  }
}

const isWeights = (path: string): boolean => WEIGHTS.includes(extname(path).toLowerCase())
