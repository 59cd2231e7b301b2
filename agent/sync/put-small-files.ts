import type { Carrier } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import type { ObservedUnit } from './observe-units.ts'
import { openUnit } from './open-unit.ts'
import { MARKER_FILES, pathInUnit, SMALL_BYTES } from './unit.ts'
import { recordPath } from './unit-record.ts'

/**
 * The small files of a unit that is too large for the time that is left, without what would make it look whole: an
 * adapter, a configuration or the optimizer's place in the run may save the run.
 * @throws AgentError checkpoint_changed, and what the carrier throws
 */
export const putSmallFiles = async (
  unit: ObservedUnit,
  context: {
    readonly root: string
    readonly hashFile: HashFile
    readonly carrier: () => Promise<Carrier>
    readonly signal: AbortSignal
  },
): Promise<void> => {
  const { root, hashFile, signal } = context
  const files = unit.files.filter(
    (file) => file.sizeBytes <= SMALL_BYTES && !MARKER_FILES.includes(pathInUnit(unit, file.path)),
  )
  if (files.length === 0) return
  const carrier = await context.carrier()
  const record = recordPath(unit.name)
  // An older unit of this name lies there whole: nothing of it is replaced by parts.
  if ((await carrier.list([record], { signal })).has(record)) return
  const completeAt = new Date(unit.modifiedMs).toISOString()
  const opened = await openUnit({ ...unit, files }, { root, completeAt, hashFile, signal })
  try {
    await carrier.put(opened.files, { signal, last: new Set(), isNew: false })
  } finally {
    opened.close()
  }
}
