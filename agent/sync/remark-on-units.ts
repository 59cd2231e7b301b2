import type { Problem } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import type { ObservedUnit } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'

/** A unit that rests and does not become complete for this long is said to be stuck. */
const STALE_MS = 900_000
/** A unit that is written to all the time is said so after this long; a large save takes a while. */
const RESTLESS_MS = 3_600_000

/**
 * What a person should know of a look though no copy failed: names that cannot be kept, a source that is empty, the
 * newest unit that does not become complete; null when there is nothing.
 * @param look.units undefined: the path does not exist
 */
export const remarkOnUnits = (
  spec: SyncSpec,
  look: { units: readonly ObservedUnit[] | undefined; storedCount: number },
): Problem | null => {
  const { units = [], storedCount } = look
  for (const { verdict } of units)
    if (verdict.state === 'refused')
      return {
        code: 'unsafe_path',
        severity: 'error',
        subject: spec.name,
        message: `${verdict.reason}; its unit is not copied`,
        hint: 'Rename it.',
      }
  if (units.length === 0 && storedCount > 0)
    return warning(
      spec,
      `${spec.path} is ${look.units ? 'empty' : 'gone'}, though ${storedCount} units were copied from it`,
      'Check that the disk is mounted; the copies on the remote are untouched.',
    )
  for (const unit of [...units].sort((a, b) => b.modifiedMs - a.modifiedMs)) {
    const stuck = remarkOnUnit(unit, spec)
    if (stuck) return stuck
  }
  return null
}

const remarkOnUnit = ({ name, verdict }: ObservedUnit, spec: SyncSpec): Problem | undefined => {
  if (verdict.state !== 'settling') return undefined
  const since = formatDuration(verdict.incompleteMs)
  if (verdict.waitMs === undefined && verdict.unchangedMs > STALE_MS)
    return warning(
      spec,
      `${name}: ${verdict.reason}; it does not become complete, for ${since} now, and is not copied`,
      'Finish it or remove it; complete_marker and exclude say what has to be there.',
    )
  if (verdict.incompleteMs > RESTLESS_MS)
    return warning(
      spec,
      `${name} is written to without a rest of ${formatDuration(spec.settle)}, for ${since} now, and is not copied`,
      'Lower settle, or leave it out with exclude.',
    )
  return undefined
}

/** For a unit that went away before it was copied. */
export const remarkOnLoss = (spec: SyncSpec, unit: string): Problem =>
  warning(
    spec,
    `${unit} was removed before it was complete and copied`,
    'Nothing of it is on the remote; keep checkpoints a little longer.',
  )

/** For keep_local where copies can be proven by their sizes alone: nothing is ever pruned, and the disk fills up. */
export const remarkOnUnprunable = (planned: PlannedSync, unit: string): Problem => ({
  code: 'sync_config',
  severity: 'warning',
  subject: planned.spec.name,
  message: `keep_local removes nothing here: ${destinationOf(planned)} keeps no hashes, so the copy of ${unit} is proven by its size alone`,
  hint: 'Copy to a remote with hashes (S3, B2, Dropbox, sftp with sha256sum, a disk), or take keep_local out and make room yourself.',
})

const warning = (spec: SyncSpec, message: string, hint: string): Problem => ({
  code: 'sync_failed',
  severity: 'warning',
  subject: spec.name,
  message,
  hint,
})
