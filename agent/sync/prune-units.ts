import { lstat, mkdir, realpath, rename, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Carrier, CarryContext } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import { isCertainCheckpoint } from './is-checkpoint.ts'
import type { ObservedUnit } from './observe-units.ts'
import { findOpenFiles } from './open-files.ts'
import { openUnit } from './open-unit.ts'
import { findReliedOn } from './pointers.ts'
import type { UnitCopy } from './sync-store.ts'
import { readRecords } from './unit-record.ts'
import { fingerprintOf, OWN_FOLDER } from './unit.ts'
import { verifyFiles } from './verify-files.ts'

export type PruneContext = CarryContext & {
  readonly root: string
  readonly keep: number
  readonly carrier: () => Promise<Carrier>
  /** Copies that hold exactly what the unit holds now. */
  readonly copyOf: (unit: ObservedUnit) => UnitCopy | undefined
  readonly completeMarker: string | undefined
  readonly hashFile: HashFile
  /** Told of a unit whose copy is not what it was: it is to be made again. */
  readonly onBroken: (unit: string) => void
  /** Units that a laptop is pulling right now. */
  readonly isLeased: (unit: string) => boolean
}

/**
 * Makes room on the box: removes the files of older checkpoints whose copies are proven by hash, again now.
 * Never the newest `keep` complete ones of a kind, by their files' times and by when they were seen to change (a clock may
 * have been wrong, files may have been copied with their times), nor what something points to (pointers.ts), what
 * somebody has open or pulls, nor a file that was not copied. When the remote does not answer, the error passes on and nothing is removed (S43).
 * @returns the names of the units that were removed; and one that would have been, had its copy been proven by hash
 */
export const pruneUnits = async (
  units: readonly ObservedUnit[],
  context: PruneContext,
): Promise<{ readonly removed: readonly string[]; readonly unproven: string | undefined }> => {
  const removed: string[] = []
  let unproven: string | undefined
  const reliedOn = await findReliedOn(
    context.root,
    units.filter((unit) => unit.kind !== 'rest'),
  )
  for (const kind of ['folder', 'file'] as const) {
    const complete = units
      // One that is not complete, a save that was cut off for instance, is no reason to let the last good one go.
      .filter((unit) => unit.verdict.state === 'complete')
      .filter((unit) => unit.kind === kind && isCertainCheckpoint(unit, context.completeMarker))
      .sort((a, b) => b.modifiedMs - a.modifiedMs)
    const keep = Math.max(1, context.keep)
    const changedLast = new Set([...complete].sort(lastChangedFirst).slice(0, keep))
    const older = complete
      .slice(keep)
      .filter((unit) => !changedLast.has(unit))
      .reverse()
    for (const unit of older.filter(({ name }) => !reliedOn.has(name))) {
      if (context.copyOf(unit)?.verifiedBy === 'size') unproven ??= unit.name
      else if (await pruneUnit(unit, context)) removed.push(unit.name)
    }
  }
  return { removed, unproven }
}

const lastChangedFirst = (a: ObservedUnit, b: ObservedUnit): number =>
  b.changedAtLook - a.changedAtLook || b.modifiedMs - a.modifiedMs

const pruneUnit = async (unit: ObservedUnit, context: PruneContext): Promise<boolean> => {
  const { root } = context
  const copy = context.copyOf(unit)
  if (unit.verdict.state !== 'complete' || copy?.state !== 'stored' || copy.verifiedBy !== 'hash')
    return false
  if (context.isLeased(unit.name)) return false
  if (!(await isProvenNow(unit, { ...context, copy, completeAt: unit.verdict.completeAt }))) {
    context.onBroken(unit.name)
    return false
  }
  const real = await realpath(root)
  const open = await findOpenFiles(real, { writingOnly: false })
  if (unit.files.some((file) => open.has(join(real, file.path)))) return false
  for (const file of unit.files) {
    const stats = await lstat(join(root, file.path), { bigint: true }).catch(() => undefined)
    if (!stats || fingerprintOf(stats) !== file.fingerprint) return false
  }
  await removeFiles(unit, root)
  return true
}

/**
 * The remote is asked once more, for every hash and for our own record: since the copy was proven somebody else may have
 * written there, and checkpoints of one model all have the same size.
 */
const isProvenNow = async (
  unit: ObservedUnit,
  context: PruneContext & { readonly copy: UnitCopy; readonly completeAt: string },
): Promise<boolean> => {
  const { copy, signal } = context
  const carrier = await context.carrier()
  const record = (await readRecords([unit.name], { carrier, signal })).get(unit.name)
  if (record?.digest !== copy.digest) return false
  const there = await carrier.list(
    copy.files.map((file) => file.path),
    { signal },
  )
  const held = await openUnit(unit, context)
  try {
    return (await verifyFiles(held.files, there)) === 'hash'
  } catch (error) {
    if (error instanceof AgentError && error.code === 'sync_failed') return false
    throw error
  } finally {
    held.close()
  }
}

/** First out of sight by one rename each, then removed: a crash leaves the trash, never half a checkpoint's name. */
const removeFiles = async (unit: ObservedUnit, root: string): Promise<void> => {
  const trash = join(root, `${OWN_FOLDER}-trash`)
  try {
    for (const file of unit.files) {
      await mkdir(dirname(join(trash, file.path)), { recursive: true })
      await rename(join(root, file.path), join(trash, file.path))
    }
    const folders = new Set(unit.files.map((file) => dirname(file.path)).filter((folder) => folder !== '.'))
    for (const folder of [...folders].sort((a, b) => b.length - a.length)) {
      // A folder that still holds what was not copied stays.
      await rmdir(join(root, folder)).catch(() => undefined)
    }
  } finally {
    await rm(trash, { recursive: true, force: true })
  }
}
