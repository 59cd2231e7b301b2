import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Carrier, CarryContext, RemoteFile } from './carrier.ts'
import type { HashAlgorithm } from './file-hashes.ts'
import type { SealedFile, SealedUnit } from './seal-unit.ts'
import type { StoredFile } from './sync-store.ts'
import { MARKER_FILES, OWN_FOLDER, pathInUnit } from './unit.ts'

/** What lies beside the files as `.gpu-agent/<unit>.json`: written last, so where it is, the unit is whole. */
const UnitRecord = z.object({
  version: z.literal(1),
  unit: z.string(),
  digest: z.string(),
  completeAt: z.string(),
  files: z.array(z.object({ path: z.string(), sizeBytes: z.number(), sha256: z.string() })),
})
type UnitRecord = z.infer<typeof UnitRecord>

export type StoreContext = CarryContext & {
  readonly carrier: Carrier
  readonly versions: boolean
  readonly completeMarker: string | undefined
  /** True when a copy of this unit began here before and was not committed: what lies there may be a part of it. */
  readonly startedBefore: boolean
  /** Called before the first byte is written where the unit lies, with how many there will be. */
  readonly onPut: (bytes: number) => void
  /** A folder of the agent's own for the text of the record. */
  readonly temporaryFolder: string
}

/** Where the record of a unit lies, relative to the destination. */
export const recordPath = (unit: string): string => `${OWN_FOLDER}/${unit}.json`

/**
 * Brings one unit to the destination and proves it: list what is there, keep what would be replaced, put what is
 * missing, list again and compare every size and hash, look at the sources again, and only then write the record and
 * read it back. Nothing that a carrier says of itself counts.
 *
 * A different unit under the same name (`checkpoint-100` of a new run) takes the place, since a file lies at its own
 * path; with `versions` the old one is copied to `<unit>~<first 8 of its digest>` first, with its record, and proven.
 * @returns how far the proof goes: `size` where the remote keeps no hashes
 * @throws AgentError checkpoint_changed, sync_failed and what the carrier throws
 */
export const storeUnit = async (unit: SealedUnit, context: StoreContext): Promise<'hash' | 'size'> => {
  const { carrier } = context
  const record = recordPath(unit.name)
  const paths = unit.files.map((file) => file.path)
  const before = await carrier.list([record, ...paths], context)
  const old = before.has(record) ? parseRecord(await carrier.read(record, context)) : undefined

  const missing: SealedFile[] = []
  for (const file of unit.files) if (!(await isThere(file, before.get(file.path), old))) missing.push(file)
  if (missing.length > 0) {
    const replaced = missing.filter((file) => before.has(file.path))
    if (context.versions && replaced.length > 0) await keepOld(unit, { ...context, old, replaced, before })
    context.onPut(missing.reduce((sum, file) => sum + file.sizeBytes, 0))
    await carrier.put(missing, { ...context, last: lastFiles(unit, context.completeMarker) })
  }

  const after = missing.length > 0 ? await carrier.list(paths, context) : before
  const verifiedBy = await verify(unit.files, after)
  if (!(await unit.unchanged()))
    throw new AgentError('checkpoint_changed', `${unit.name} changed while it was copied`)
  if (old?.digest !== unit.digest)
    await writeRecord({ version: 1, unit: unit.name, ...pickRecord(unit) }, record, context)
  return verifiedBy
}

const pickRecord = ({
  digest,
  completeAt,
  files,
}: SealedUnit): Pick<UnitRecord, 'digest' | 'completeAt' | 'files'> => ({
  digest,
  completeAt,
  files: files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 })),
})

/** The record in a text; undefined for one that was cut off. */
export const parseRecord = (text: string): UnitRecord | undefined => {
  try {
    return UnitRecord.parse(JSON.parse(text))
  } catch {
    // Cut off by a killed copy: without a record the unit counts as not stored.
    return undefined
  }
}

const STRONGEST_FIRST: readonly HashAlgorithm[] = ['sha256', 'sha1', 'md5']

/** The hash that both sides can name; undefined where the remote keeps none. */
const sharedAlgorithm = (there: RemoteFile): HashAlgorithm | undefined =>
  STRONGEST_FIRST.find((algorithm) => there.hashes[algorithm])

const isThere = async (
  file: SealedFile,
  there: RemoteFile | undefined,
  old: UnitRecord | undefined,
): Promise<boolean> => {
  if (there?.sizeBytes !== file.sizeBytes) return false
  const algorithm = sharedAlgorithm(there)
  if (algorithm) return there.hashes[algorithm] === (await file.hash(algorithm))
  // Without hashes equal sizes say nothing (S33): only our own record does, which was written after a proof.
  return old?.files.some((one) => one.path === file.path && one.sha256 === file.sha256) ?? false
}

const verify = async (
  files: readonly SealedFile[],
  there: ReadonlyMap<string, RemoteFile>,
): Promise<'hash' | 'size'> => {
  let verifiedBy: 'hash' | 'size' = 'hash'
  for (const file of files) {
    const found = there.get(file.path)
    if (!found) throw new AgentError('sync_failed', `${file.path} is not on the remote after it was copied`)
    if (found.sizeBytes !== file.sizeBytes)
      throw new AgentError(
        'sync_failed',
        `${file.path} has ${found.sizeBytes} bytes on the remote, ${file.sizeBytes} here`,
      )
    const algorithm = sharedAlgorithm(found)
    if (!algorithm) verifiedBy = 'size'
    else if (found.hashes[algorithm] !== (await file.hash(algorithm)))
      throw new AgentError('sync_failed', `${file.path} has another ${algorithm} on the remote than here`)
  }
  return verifiedBy
}

const lastFiles = (unit: SealedUnit, completeMarker: string | undefined): ReadonlySet<string> => {
  if (unit.kind === 'file') return new Set()
  const names = completeMarker === undefined ? MARKER_FILES : [...MARKER_FILES, completeMarker]
  return new Set(unit.files.map((file) => file.path).filter((path) => names.includes(pathInUnit(unit, path))))
}

type KeepContext = StoreContext & {
  readonly old: UnitRecord | undefined
  readonly replaced: readonly StoredFile[]
  readonly before: ReadonlyMap<string, RemoteFile>
}

/**
 * Copies what is about to be replaced to `<unit>~<digest8>`: a checkpoint (it has a marker) whole, so that it can be
 * used as it is; of any other folder the replaced files alone, since a growing log must not copy everything again.
 * Files without a record are kept too (somebody put them there), unless they are the part of a copy of ours.
 */
const keepOld = async (unit: SealedUnit, context: KeepContext): Promise<void> => {
  const { old, replaced, before, carrier } = context
  if (!old && context.startedBefore) return
  const isCheckpoint = lastFiles(unit, context.completeMarker).size > 0
  const replacedPaths = new Set(replaced.map(({ path }) => path))
  const oldFiles = old?.files.filter(({ path }) => isCheckpoint || replacedPaths.has(path))
  const suffix = (old?.digest ?? listingDigest(replaced, before)).slice(0, 8)
  const kept = `${unit.name}~${suffix}`
  const pairs = (oldFiles ?? replaced).map(({ path }) => ({
    from: path,
    to: kept + path.slice(unit.name.length),
    // What the record says is what is worth keeping: after a copy that broke off, the path holds newer bytes already.
    sizeBytes: oldFiles?.find((file) => file.path === path)?.sizeBytes ?? before.get(path)?.sizeBytes,
    sha256: oldFiles?.find((file) => file.path === path)?.sha256,
  }))
  const isKept = (file: RemoteFile | undefined, { sizeBytes, sha256 }: (typeof pairs)[number]): boolean =>
    file !== undefined &&
    file.sizeBytes === sizeBytes &&
    (!sha256 || !file.hashes.sha256 || file.hashes.sha256 === sha256)
  const there = await carrier.list(
    pairs.flatMap(({ from, to }) => [from, to]),
    context,
  )
  const wanted = pairs.filter(
    (pair) => !isKept(there.get(pair.to), pair) && isKept(there.get(pair.from), pair),
  )
  await carrier.keep(wanted, context)
  const now = await carrier.list(
    wanted.map(({ to }) => to),
    context,
  )
  const lost = wanted.find((pair) => !isKept(now.get(pair.to), pair))
  if (lost)
    throw new AgentError('sync_failed', `the older version of ${lost.from} could not be kept as ${lost.to}`)
  if (old && oldFiles)
    await writeRecord(
      { ...old, unit: kept, files: renamed(oldFiles, unit.name, kept) },
      recordPath(kept),
      context,
    )
}

const renamed = (files: readonly StoredFile[], from: string, to: string): StoredFile[] =>
  files.map((file) => ({ ...file, path: to + file.path.slice(from.length) }))

const listingDigest = (files: readonly StoredFile[], before: ReadonlyMap<string, RemoteFile>): string =>
  createHash('sha256')
    .update(JSON.stringify(files.map(({ path }) => [path, before.get(path)])))
    .digest('hex')

const writeRecord = async (record: UnitRecord, path: string, context: StoreContext): Promise<void> => {
  const text = `${JSON.stringify(record, undefined, 1)}\n`
  const folder = await mkdtemp(join(context.temporaryFolder, 'record-'))
  try {
    const from = join(folder, 'record.json')
    await writeFile(from, text)
    const file = { from, path, sizeBytes: Buffer.byteLength(text) }
    await context.carrier.put([file], { signal: context.signal, last: new Set() })
    if ((await context.carrier.read(path, context)) !== text)
      throw new AgentError('sync_failed', `the record ${path} reads back differently from the remote`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
