import { lstat } from 'node:fs/promises'
import type { DownloadRow, ModelRow } from '../../shared/contract/records.ts'
import type { KeptSnapshots } from './kept-snapshots.ts'
import type { Rows } from './rows.ts'
import { blobFiles } from './snapshot-layout.ts'
import type { VerifiedFile, VerifiedFiles } from './verified-files.ts'

/**
 * Every file and snapshot that downloads brought and that is there: what is shown now, then what earlier runs and pulls
 * left. One that was damaged, or changed by somebody else since, is `failed`: it is not known to be good.
 */
export const listModels = async (deps: {
  readonly rows: Rows
  readonly verified: VerifiedFiles
  readonly snapshots: KeptSnapshots
}): Promise<readonly ModelRow[]> => {
  const { rows, verified } = deps
  const models = rows.entries().map(fromRow)
  const left = new Map(verified.all().map((file) => [file.path, file]))
  for (const kept of deps.snapshots.all()) {
    const files = blobFiles({ ...kept, optional: false, allowPickle: true })
    const good = await Promise.all(files.map(({ path }) => verified.find(path)))
    for (const { path } of files) left.delete(path)
    if (rows.get(kept.snapshot.to)) continue
    const isGood = good.every((file) => file !== undefined)
    models.push({
      path: kept.snapshot.to,
      source: kept.snapshot.to,
      sizeBytes: kept.snapshot.sizeBytes,
      sha256: null,
      verifiedAt: isGood ? kept.provenAt : null,
      state: isGood ? 'done' : 'failed',
    })
  }
  for (const file of left.values()) {
    if (rows.get(file.path) || isBlob(file.path)) continue
    const isGood = (await verified.find(file.path)) !== undefined
    if (isGood || (await isThere(file.path))) models.push(fromRecord(file, isGood))
  }
  return models
}

/** Of a snapshot that is not complete yet, or was replaced by a newer one. */
const isBlob = (path: string): boolean => /\/hub\/(models|datasets|spaces)--[^/]+\/blobs\/[^/]+$/.test(path)

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  )

const fromRow = ([path, row]: readonly [string, DownloadRow]): ModelRow => ({
  path,
  source: row.source,
  sizeBytes: row.bytesTotal,
  sha256: row.sha256,
  verifiedAt: row.verifiedAt,
  state: row.state,
})

const fromRecord = (file: VerifiedFile, isGood: boolean): ModelRow => ({
  path: file.path,
  source: file.source,
  sizeBytes: file.sizeBytes,
  sha256: isGood ? file.sha256 : null,
  verifiedAt: isGood ? file.verifiedAt : null,
  state: isGood ? 'done' : 'failed',
})
