import { lstat } from 'node:fs/promises'
import type { Database } from '../platform/database.ts'
import type { Clock } from '../platform/clock.ts'

/** A file whose every byte was checked, and how it looked on disk then. */
export type VerifiedFile = {
  readonly path: string
  readonly source: string | null
  readonly sizeBytes: number
  readonly sha256: string
  readonly verifiedAt: string
  /** What reading it again found wrong; null for a file that is good as far as anybody knows. */
  readonly damage: string | null
}

export type VerifiedFiles = {
  /** The record of a file, if the file on disk still has the size, time and inode it had: one look, no reading. */
  readonly find: (path: string) => Promise<VerifiedFile | undefined>
  /** Notes a file as verified, as it lies on disk now. */
  readonly add: (file: Omit<VerifiedFile, 'verifiedAt' | 'damage'>) => Promise<VerifiedFile>
  /** Notes what is wrong with a file: until it is added again, `find` does not know it. */
  readonly markDamaged: (path: string, damage: string) => void
  readonly all: () => readonly VerifiedFile[]
}

type Row = {
  path: string
  source: string | null
  size_bytes: number
  sha256: string
  mtime_ns: string
  inode: string
  verified_at: string
  damage: string | null
}

export const createVerifiedFiles = (db: Database, clock: Clock): VerifiedFiles => {
  const select = db.prepare<[string], Row>('SELECT * FROM files WHERE path = ?')
  const selectAll = db.prepare<[], Row>('SELECT * FROM files ORDER BY path')
  const insert = db.prepare<[Row]>(
    `INSERT OR REPLACE INTO files (path, source, size_bytes, sha256, mtime_ns, inode, verified_at, damage)
     VALUES (@path, @source, @size_bytes, @sha256, @mtime_ns, @inode, @verified_at, @damage)`,
  )
  const mark = db.prepare<[string, string]>('UPDATE files SET damage = ? WHERE path = ?')
  return {
    find: async (path) => {
      const row = select.get(path)
      if (row === undefined || row.damage !== null) return undefined
      const stats = await lstat(path, { bigint: true }).catch(() => undefined)
      const same =
        stats?.isFile() === true &&
        Number(stats.size) === row.size_bytes &&
        String(stats.mtimeNs) === row.mtime_ns &&
        String(stats.ino) === row.inode
      return same ? toFile(row) : undefined
    },
    add: async (file) => {
      const stats = await lstat(file.path, { bigint: true })
      const row: Row = {
        path: file.path,
        source: file.source,
        size_bytes: file.sizeBytes,
        sha256: file.sha256,
        mtime_ns: String(stats.mtimeNs),
        inode: String(stats.ino),
        verified_at: clock.now().toISOString(),
        damage: null,
      }
      insert.run(row)
      return toFile(row)
    },
    markDamaged: (path, damage) => {
      mark.run(damage, path)
    },
    all: () => selectAll.all().map(toFile),
  }
}

const toFile = (row: Row): VerifiedFile => ({
  path: row.path,
  source: row.source,
  sizeBytes: row.size_bytes,
  sha256: row.sha256,
  verifiedAt: row.verified_at,
  damage: row.damage,
})
