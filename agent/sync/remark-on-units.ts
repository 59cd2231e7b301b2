import type { Problem } from '../../shared/contract/errors.ts'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import type { ObservedUnit } from './observe-units.ts'

/** A unit that does not become complete for this long is said to be stuck. */
const STALE_MS = 900_000

/**
 * What a person should know of a look though no copy failed: names that cannot be kept, a source that is empty, a unit
 * that does not become complete; null when there is nothing.
 * @param look.units undefined: the path does not exist
 */
export const remarkOnUnits = (
  spec: SyncSpec,
  look: { units: readonly ObservedUnit[] | undefined; storedCount: number },
): Problem | null => {
  const { units = [], storedCount } = look
  const warning = (message: string, hint: string): Problem => ({
    code: 'sync_failed',
    severity: 'warning',
    subject: spec.name,
    message,
    hint,
  })
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
      `${spec.path} is ${look.units ? 'empty' : 'gone'}, though ${storedCount} units were copied from it`,
      'Check that the disk is mounted; the copies on the remote are untouched.',
    )
  for (const { verdict } of units)
    if (verdict.state === 'settling' && verdict.waitMs === undefined && verdict.unchangedMs > STALE_MS)
      return warning(
        `not copied, since it does not become complete: ${verdict.reason}`,
        'Finish it or remove it.',
      )
  return null
}

/** For a unit that went away before it was copied. */
export const remarkOnLoss = (spec: SyncSpec, unit: string): Problem => ({
  code: 'sync_failed',
  severity: 'warning',
  subject: spec.name,
  message: `${unit} was removed before it was complete and copied`,
  hint: 'Nothing of it is on the remote; keep checkpoints a little longer.',
})
