import { setImmediate as nextTurn } from 'node:timers/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { RemoteFile } from './carrier.ts'
import type { HashAlgorithm } from './file-hashes.ts'
import { keepReplaced } from './keep-replaced.ts'
import type { OpenFile, OpenUnit } from './open-unit.ts'
import { FILES_A_TURN } from './open-unit.ts'
import type { SealedUnit } from './seal-unit.ts'
import { sealUnit } from './seal-unit.ts'
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

/** A unit whose copy is proven, and how far: `size` where the remote keeps no hashes. */
export type Proven = { readonly unit: SealedUnit; readonly verifiedBy: 'hash' | 'size' }

/**
 * Brings units to the destination together and proves them: list what is there, keep what would be replaced, put what
 * is missing, list again and compare every size and hash, look at the sources again, and only then write the records
 * and read them back. Nothing that a carrier says of itself counts. Where one of them fails, none of them is recorded.
 *
 * A different unit under the same name (`checkpoint-100` of a new run) takes the place, since a file lies at its own
 * path; with `versions` the old one is copied to `<unit>~<first 8 of its digest>` first, with its record, and proven.
 * @throws AgentError checkpoint_changed, sync_failed and what the carrier throws
 */
export const storeUnits = async (
  units: readonly OpenUnit[],
  context: StoreContext,
): Promise<readonly Proven[]> => {
  const { carrier } = context
  const paths = units.flatMap((unit) => unit.files.map((file) => file.path))
  const before = await carrier.list([...units.map(({ name }) => recordPath(name)), ...paths], context)
  const recorded = units.map(({ name }) => name).filter((name) => before.has(recordPath(name)))
  const records = await readRecords(recorded, context)
  const { missing, outdated } = await findMissing(units, { ...context, before, records })
  if (missing.length > 0) {
    context.onPut(missing.reduce((sum, file) => sum + file.sizeBytes, 0))
    await voidRecords(outdated, context)
    await putAndHash(units, { ...context, missing, isNew: !missing.some((file) => before.has(file.path)) })
  }

  const after = missing.length > 0 ? await carrier.list(paths, context) : before
  const proven: Proven[] = []
  for (const unit of units) {
    const sealed = await sealUnit(unit)
    const verifiedBy = await verifyFiles(sealed.files, after)
    if (!(await unit.unchanged()))
      throw new AgentError('checkpoint_changed', `${unit.name} changed while it was copied`)
    proven.push({ unit: sealed, verifiedBy })
  }
  const sealed = proven.map(({ unit }) => unit)
  await writeRecords(sealed.filter((unit) => isOutdated(records.get(unit.name), unit)).map(recordOf), context)
  return proven
}

type Before = {
  readonly before: ReadonlyMap<string, RemoteFile>
  readonly records: ReadonlyMap<string, UnitRecord>
}

/** What is not there yet, and the units whose recorded files are replaced; with `versions` those are kept first. */
const findMissing = async (
  units: readonly OpenUnit[],
  context: StoreContext & Before,
): Promise<{ readonly missing: readonly OpenFile[]; readonly outdated: readonly string[] }> => {
  const { before, records } = context
  const missing: OpenFile[] = []
  const outdated: string[] = []
  for (const unit of units) {
    const record = records.get(unit.name)
    const lacking: OpenFile[] = []
    for (const file of unit.files)
      if (!(await isThere(file, { there: before.get(file.path), record }))) lacking.push(file)
    const replaced = lacking.filter((file) => before.has(file.path))
    if (context.versions && replaced.length > 0)
      await keepReplaced(unit, {
        ...context,
        // Where the record speaks of the bytes that are here, what lies there is no version of ours.
        old: (await isRecorded(replaced, record)) ? undefined : record,
        replaced,
        isMarked: lastFiles(unit, context.completeMarker).length > 0,
        startedBefore: context.startedBefore(unit.name),
      })
    if (record && replaced.length > 0) outdated.push(unit.name)
    missing.push(...lacking)
  }
  return { missing, outdated }
}

const isRecorded = async (files: readonly OpenFile[], record: UnitRecord | undefined): Promise<boolean> => {
  for (const file of files) {
    const recorded = record?.files.find(({ path }) => path === file.path)
    if (recorded && recorded.sha256 === (await file.hash('sha256'))) return true
  }
  return false
}

/**
 * Sends files and hashes them meanwhile. The comparison afterwards allows that: it shows that the bytes that arrived
 * are those that were hashed. Where the remote names no hash nothing would show it, so there the hashes come first.
 */
const putAndHash = async (
  units: readonly OpenUnit[],
  context: StoreContext & { readonly missing: readonly OpenFile[]; readonly isNew: boolean },
): Promise<void> => {
  const { carrier, missing } = context
  const last = new Set(units.flatMap((unit) => lastFiles(unit, context.completeMarker)))
  const named = carrier.namedHash()
  if (!named) for (const unit of units) await sealUnit(unit)
  await Promise.all([carrier.put(missing, { ...context, last }), named && hashAlong(missing, named)])
}

const hashAlong = async (files: readonly OpenFile[], named: HashAlgorithm): Promise<void> => {
  for (const [index, file] of files.entries()) {
    // A file that changes meanwhile, or an abort, is found by the copy or by the seal.
    await file.hash('sha256', named).catch(() => undefined)
    if (index % FILES_A_TURN === 0) await nextTurn()
  }
}

const isOutdated = (record: UnitRecord | undefined, unit: SealedUnit): boolean =>
  record?.digest !== unit.digest

const lastFiles = (unit: OpenUnit, completeMarker: string | undefined): readonly string[] => {
  if (unit.kind === 'file') return []
  const names = completeMarker === undefined ? MARKER_FILES : [...MARKER_FILES, completeMarker]
  return unit.files.map((file) => file.path).filter((path) => names.includes(pathInUnit(unit, path)))
}
