import type { ObservedUnit } from './observe-units.ts'
import { isBesideCheckpoints } from './order-units.ts'
import { sizeOf } from './unit.ts'

/** As many files are held open at most, and as many bytes begin again when a copy is cut off. */
const BATCH_FILES = 512
const BATCH_BYTES = 64 * 2 ** 20

/**
 * Units in the order given, small ones together: each call of rclone costs a tenth of a second and more, and a folder
 * of outputs has thousands of units of one small file. What lies beside checkpoints (a pointer to the newest one) is
 * never in one batch with them, so that it arrives after them.
 */
export const batchUnits = (units: readonly ObservedUnit[]): readonly (readonly ObservedUnit[])[] => {
  const batches: ObservedUnit[][] = []
  let files = 0
  let bytes = 0
  for (const unit of units) {
    const batch = batches.at(-1)
    files += unit.files.length
    bytes += sizeOf(unit)
    const fits =
      files <= BATCH_FILES &&
      bytes <= BATCH_BYTES &&
      batch?.every((other) => isBesideCheckpoints(other) === isBesideCheckpoints(unit))
    if (batch && fits) batch.push(unit)
    else {
      batches.push([unit])
      files = unit.files.length
      bytes = sizeOf(unit)
    }
  }
  return batches
}
