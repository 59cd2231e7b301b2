import { stepOf } from './inspect-unit.ts'
import type { ObservedUnit } from './observe-units.ts'
import { POINTER_FILES } from './unit.ts'

/** Newest first, and what lies beside checkpoints, a pointer to the newest one among it, after all of them. */
export const newestFirst = (a: ObservedUnit, b: ObservedUnit): number =>
  Number(isBesideCheckpoints(a)) - Number(isBesideCheckpoints(b)) ||
  b.modifiedMs - a.modifiedMs ||
  (stepOf(b.name) ?? 0) - (stepOf(a.name) ?? 0)

/** True for a pointer file, and for what a folder holds beside the checkpoints in it. */
export const isBesideCheckpoints = ({ name, kind }: ObservedUnit): boolean =>
  POINTER_FILES.includes(name) || kind === 'rest'

/** By its name, or by a file of it in another unit: a folder in which a checkpoint appears is split. */
export const isStillThere = (before: ObservedUnit, now: ObservedUnit): boolean =>
  now.name === before.name || before.files.some(({ path }) => now.present.has(path))
