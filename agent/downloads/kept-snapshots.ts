import type { Snapshot, SnapshotRequest } from '../../shared/sources/plan-snapshot.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'

/** A repository that was fetched whole, as it was listed then. */
export type KeptSnapshot = { readonly snapshot: Snapshot; readonly hfHome: string; readonly provenAt: string }

export type KeptSnapshots = {
  readonly add: (kept: Omit<KeptSnapshot, 'provenAt'>) => void
  /** The newest one that the very same request brought. */
  readonly find: (request: SnapshotRequest, hfHome: string) => KeptSnapshot | undefined
  readonly all: () => readonly KeptSnapshot[]
}

type Row = { asked: string; hf_home: string; snapshot: string; proven_at: string }

export const createKeptSnapshots = (db: Database, clock: Clock): KeptSnapshots => {
  const select = db.prepare<[string], Row>('SELECT * FROM snapshots WHERE asked = ?')
  const selectAll = db.prepare<[], Row>('SELECT * FROM snapshots ORDER BY asked')
  const insert = db.prepare<[Row]>(
    'INSERT OR REPLACE INTO snapshots (asked, hf_home, snapshot, proven_at) VALUES (@asked, @hf_home, @snapshot, @proven_at)',
  )
  return {
    add: ({ snapshot, hfHome }) => {
      insert.run({
        asked: keyOf(snapshot.request, hfHome),
        hf_home: hfHome,
        snapshot: JSON.stringify(snapshot),
        proven_at: clock.now().toISOString(),
      })
    },
    find: (request, hfHome) => {
      const row = select.get(keyOf(request, hfHome))
      return row && toKept(row)
    },
    all: () => selectAll.all().map(toKept),
  }
}

const keyOf = ({ snapshot, include, exclude }: SnapshotRequest, hfHome: string): string =>
  JSON.stringify([snapshot, include, exclude, hfHome])

const toKept = (row: Row): KeptSnapshot => ({
  // Written by this program alone, in this form.
  snapshot: JSON.parse(row.snapshot) as Snapshot,
  hfHome: row.hf_home,
  provenAt: row.proven_at,
})
