import type { Problem } from '../../shared/contract/errors.ts'
import type { PendingUnit, SyncRow } from '../../shared/contract/records.ts'
import type { SyncState } from '../../shared/contract/states.ts'
import type { CopyMeter } from './copy-meter.ts'
import type { ObservedUnit } from './observe-units.ts'
import { sizeOf } from './unit.ts'

/** More than this nobody reads; the counts are of all. */
const SHOWN = 20

/** A sync as status shows it: what is pending and why, and how far the copy that is under way has come. */
export const syncRow = (
  name: string,
  parts: {
    readonly state: SyncState
    readonly units: readonly ObservedUnit[]
    readonly isStored: (unit: ObservedUnit) => boolean
    readonly hasFailed: (unit: string) => boolean
    readonly meter: CopyMeter
    readonly lastSuccessAt: string | null
    readonly consecutiveFailures: number
    readonly problem: Problem | null
  },
): SyncRow => {
  const { units, isStored, meter, hasFailed, state, lastSuccessAt, consecutiveFailures, problem } = parts
  const pending = units.filter((unit) => !isStored(unit)).sort((a, b) => b.modifiedMs - a.modifiedMs)
  const bytes = pending.reduce((sum, unit) => sum + sizeOf(unit), 0)
  return {
    name,
    state,
    lastSuccessAt,
    pendingFiles: pending.reduce((sum, unit) => sum + unit.files.length, 0),
    pendingBytes: Math.max(0, bytes - meter.bytesDone()),
    consecutiveFailures,
    problem,
    pending: pending.slice(0, SHOWN).map((unit) => ({
      unit: unit.name,
      files: unit.files.length,
      sizeBytes: sizeOf(unit),
      ...reasonOf(unit, {
        isCopying: meter.isCopying(unit.name),
        hasFailed: hasFailed(unit.name),
        isRemoteAway: consecutiveFailures > 0,
      }),
    })),
    copying: meter.row(),
  }
}

/** Why a unit is not stored, in a word and in words. */
export const reasonOf = (
  { verdict }: ObservedUnit,
  copy: { readonly isCopying: boolean; readonly hasFailed: boolean; readonly isRemoteAway: boolean },
): Pick<PendingUnit, 'state' | 'reason'> => {
  switch (verdict.state) {
    case 'refused':
      return { state: 'refused', reason: verdict.reason }
    case 'settling':
      return { state: verdict.waitMs === undefined ? 'incomplete' : 'settling', reason: verdict.reason }
    case 'complete':
      if (copy.isCopying) return { state: 'copying', reason: 'is being copied' }
      if (copy.hasFailed) return { state: 'failed', reason: 'its last copy failed; it is tried again' }
      return {
        state: 'queued',
        reason: copy.isRemoteAway
          ? 'is complete and waits until the remote works again'
          : 'is complete and waits for its turn',
      }
    default:
      return verdict satisfies never
  }
}
