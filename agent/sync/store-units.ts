import { AgentError } from '../../shared/contract/errors.ts'
import { keepReplaced } from './keep-replaced.ts'
import type { SealedFile, SealedUnit } from './seal-unit.ts'
import { MARKER_FILES, pathInUnit } from './unit.ts'
import type { RecordContext, UnitRecord } from './unit-record.ts'
import { readRecords, recordOf, recordPath, voidRecords, writeRecords } from './unit-record.ts'
import { isThere, verifyFiles } from './verify-files.ts'

export type StoreContext = RecordContext & {
  readonly versions: boolean
  readonly completeMarker: string | undefined
  /** True when a copy of this unit began here before and was not committed: what lies there may be a part of it. */
  readonly startedBefore: (unit: string) => boolean
  /** Called before the first byte is written, with how many there will be. */
  readonly onPut: (bytes: number) => void
}

/** By unit, how far the proof of its copy goes: `size` where the remote keeps no hashes. */
export type Proofs = ReadonlyMap<string, 'hash' | 'size'>

/**
 * Brings units to the destination together and proves them: list what is there, keep what would be replaced, put what
 * is missing, list again and compare every size and hash, look at the sources again, and only then write the records
 * and read them back. Nothing that a carrier says of itself counts. Where one of them fails, none of them is recorded.
 *
 * A different unit under the same name (`checkpoint-100` of a new run) takes the place, since a file lies at its own
 * path; with `versions` the old one is copied to `<unit>~<first 8 of its digest>` first, with its record, and proven.
 * @throws AgentError checkpoint_changed, sync_failed and what the carrier throws
 */
export const storeUnits = async (units: readonly SealedUnit[], context: StoreContext): Promise<Proofs> => {
  const { carrier } = context
  const paths = units.flatMap((unit) => unit.files.map((file) => file.path))
  const before = await carrier.list([...units.map(({ name }) => recordPath(name)), ...paths], context)
  const recorded = units.map(({ name }) => name).filter((name) => before.has(recordPath(name)))
  const records = await readRecords(recorded, context)

  const missing: SealedFile[] = []
  const outdated: string[] = []
  for (const unit of units) {
    const record = records.get(unit.name)
    const lacking: SealedFile[] = []
    for (const file of unit.files)
      if (!(await isThere(file, { there: before.get(file.path), record }))) lacking.push(file)
    const replaced = lacking.filter((file) => before.has(file.path))
    if (context.versions && replaced.length > 0)
      await keepReplaced(unit, {
        ...context,
        old: record,
        replaced,
        before,
        isMarked: lastFiles(unit, context.completeMarker).length > 0,
        startedBefore: context.startedBefore(unit.name),
      })
    if (record && replaced.length > 0) outdated.push(unit.name)
    missing.push(...lacking)
  }
  if (missing.length > 0) {
    context.onPut(missing.reduce((sum, file) => sum + file.sizeBytes, 0))
    await voidRecords(outdated, context)
    const last = new Set(units.flatMap((unit) => lastFiles(unit, context.completeMarker)))
    const isNew = !missing.some((file) => before.has(file.path))
    await Promise.all([carrier.put(missing, { ...context, last, isNew }), hashAlong(missing, context)])
  }

  const after = missing.length > 0 ? await carrier.list(paths, context) : before
  const proofs = new Map<string, 'hash' | 'size'>()
  for (const unit of units) {
    proofs.set(unit.name, await verifyFiles(unit.files, after))
    if (!(await unit.unchanged()))
      throw new AgentError('checkpoint_changed', `${unit.name} changed while it was copied`)
  }
  await writeRecords(units.filter((unit) => isOutdated(records.get(unit.name), unit)).map(recordOf), context)
  return proofs
}

/** The hash that this remote names is worked out while the bytes travel; it is remembered for the comparison. */
const hashAlong = async (files: readonly SealedFile[], { carrier }: StoreContext): Promise<void> => {
  const algorithm = carrier.namedHash()
  // A file that changes meanwhile, or an abort, is found by the copy itself.
  if (algorithm) for (const file of files) await file.hash(algorithm).catch(() => undefined)
}

const isOutdated = (record: UnitRecord | undefined, unit: SealedUnit): boolean =>
  record?.digest !== unit.digest

const lastFiles = (unit: SealedUnit, completeMarker: string | undefined): readonly string[] => {
  if (unit.kind === 'file') return []
  const names = completeMarker === undefined ? MARKER_FILES : [...MARKER_FILES, completeMarker]
  return unit.files.map((file) => file.path).filter((path) => names.includes(pathInUnit(unit, path)))
}
