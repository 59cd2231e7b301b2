import { createHash } from 'node:crypto'
import { AgentError } from '../../shared/contract/errors.ts'
import type { RemoteFile } from './carrier.ts'
import type { OpenFile, OpenUnit } from './open-unit.ts'
import type { StoredFile } from './sync-store.ts'
import type { RecordContext, UnitRecord } from './unit-record.ts'
import { writeRecords } from './unit-record.ts'

export type KeepContext = RecordContext & {
  /** The record of the version that lies there; undefined: somebody else's files, or a copy that broke off. */
  readonly old: UnitRecord | undefined
  readonly replaced: readonly OpenFile[]
  readonly before: ReadonlyMap<string, RemoteFile>
  /** It has a marker of its own: only whole it is of use. */
  readonly isMarked: boolean
  /** A copy of this unit began here before and was not committed: what lies there may be a part of it. */
  readonly startedBefore: boolean
}

/**
 * Copies what is about to be replaced to `<unit>~<digest8>`: a checkpoint (it has a marker) whole, so that it can be
 * used as it is; of any other folder the replaced files alone, since a growing log must not copy everything again.
 * Files without a record are kept too (somebody put them there), unless they are the part of a copy of ours. What is
 * kept gets a record only where the whole of it is there afterwards.
 * @throws AgentError sync_failed when the older version is not there afterwards, and what the carrier throws
 */
export const keepReplaced = async (unit: OpenUnit, context: KeepContext): Promise<void> => {
  const { old, replaced, before, carrier } = context
  if (!old && context.startedBefore) return
  const replacedPaths = new Set(replaced.map(({ path }) => path))
  const oldFiles = old?.files.filter(({ path }) => context.isMarked || replacedPaths.has(path))
  const suffix = (old?.digest ?? listingDigest(replaced, before)).slice(0, 8)
  const kept = `${unit.name}~${suffix}`
  const pairs = (oldFiles ?? replaced).map(({ path }) => ({
    from: path,
    to: kept + path.slice(unit.name.length),
    // What the record says is what is worth keeping: after a copy that broke off, the path holds newer bytes already.
    sizeBytes: oldFiles?.find((file) => file.path === path)?.sizeBytes ?? before.get(path)?.sizeBytes,
    sha256: oldFiles?.find((file) => file.path === path)?.sha256,
  }))
  const there = await carrier.list(
    pairs.flatMap(({ from, to }) => [from, to]),
    context,
  )
  const wanted = pairs.filter((pair) => !holds(there.get(pair.to), pair) && holds(there.get(pair.from), pair))
  await carrier.keep(wanted, context)
  const now = await carrier.list(
    pairs.map(({ to }) => to),
    context,
  )
  const lost = wanted.find((pair) => !holds(now.get(pair.to), pair))
  if (lost)
    throw new AgentError('sync_failed', `the older version of ${lost.from} could not be kept as ${lost.to}`)
  const isWhole = pairs.every((pair) => holds(now.get(pair.to), pair))
  if (old && oldFiles && isWhole)
    await writeRecords([{ ...old, unit: kept, files: renamed(oldFiles, unit.name, kept) }], context)
}

type Wanted = { readonly sizeBytes: number | undefined; readonly sha256: string | undefined }

const holds = (file: RemoteFile | undefined, { sizeBytes, sha256 }: Wanted): boolean =>
  file !== undefined &&
  file.sizeBytes === sizeBytes &&
  (!sha256 || !file.hashes.sha256 || file.hashes.sha256 === sha256)

const renamed = (files: readonly StoredFile[], from: string, to: string): StoredFile[] =>
  files.map((file) => ({ ...file, path: to + file.path.slice(from.length) }))

const listingDigest = (files: readonly OpenFile[], before: ReadonlyMap<string, RemoteFile>): string =>
  createHash('sha256')
    .update(JSON.stringify(files.map(({ path }) => [path, before.get(path)])))
    .digest('hex')
