import { lstat, mkdir, realpath, rename, rm, rmdir } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import type { Carrier, CarryContext } from './carrier.ts'
import type { ObservedUnit } from './observe-units.ts'
import { findOpenFiles } from './open-files.ts'
import { findReliedOn } from './pointers.ts'
import type { UnitCopy } from './sync-store.ts'
import type { Unit } from './unit.ts'
import { fingerprintOf, OWN_FOLDER, POINTER_FILES, WEIGHTS } from './unit.ts'

/** True for what `latest` may mean: a folder, or a single file of weights. */
export const isCheckpoint = (unit: Pick<Unit, 'name' | 'kind'>): boolean =>
  unit.kind !== 'rest' &&
  !POINTER_FILES.includes(unit.name) &&
  (unit.kind === 'folder' || WEIGHTS.includes(extname(unit.name).toLowerCase()))

export type PruneContext = CarryContext & {
  readonly root: string
  readonly keep: number
  readonly carrier: () => Promise<Carrier>
  /** Copies that hold exactly what the unit holds now. */
  readonly copyOf: (unit: ObservedUnit) => UnitCopy | undefined
  /** Units that a laptop is pulling right now. */
  readonly isLeased: (unit: string) => boolean
}

/**
 * Makes room on the box: removes the files of older checkpoints whose copies are proven by hash and are there now.
 * Never the newest `keep` of a kind, nor what something points to (pointers.ts), what somebody has open or pulls, nor a file that
 * was not copied. When the remote does not answer, the error passes on and nothing is removed (S43).
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
    const older = units
      .filter((unit) => unit.kind === kind && isCheckpoint(unit))
      .sort((a, b) => b.modifiedMs - a.modifiedMs)
      .slice(Math.max(1, context.keep))
      .reverse()
    for (const unit of older.filter(({ name }) => !reliedOn.has(name))) {
      if (context.copyOf(unit)?.verifiedBy === 'size') unproven ??= unit.name
      else if (await pruneUnit(unit, context)) removed.push(unit.name)
    }
  }
  return { removed, unproven }
}

const pruneUnit = async (unit: ObservedUnit, context: PruneContext): Promise<boolean> => {
  const { root, signal } = context
  const copy = context.copyOf(unit)
  if (unit.verdict.state !== 'complete' || copy?.state !== 'stored' || copy.verifiedBy !== 'hash')
    return false
  if (context.isLeased(unit.name)) return false
  const carrier = await context.carrier()
  const there = await carrier.list(
    copy.files.map((file) => file.path),
    { signal },
  )
  if (!copy.files.every((file) => there.get(file.path)?.sizeBytes === file.sizeBytes)) return false
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
