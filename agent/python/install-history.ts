import type { Database } from '../platform/database.ts'

/** The record of installs. A transaction's truth is its journal file; this is what people look at later. */
export const createInstallHistory = (db: Database, now: () => Date) => ({
  began: (install: {
    readonly id: string
    readonly overlay: string
    readonly digest: string
    readonly changes: readonly unknown[]
  }): void => {
    db.prepare(
      `INSERT INTO python_installs (id, overlay, digest, changes, state, began_at)
       VALUES (?, ?, ?, ?, 'installing', ?)`,
    ).run(install.id, install.overlay, install.digest, JSON.stringify(install.changes), now().toISOString())
  },
  committed: (id: string): void => {
    db.prepare(`UPDATE python_installs SET state = 'committed', ended_at = ? WHERE id = ?`).run(
      now().toISOString(),
      id,
    )
  },
  rolledBack: (id: string, reason: string): void => {
    db.prepare(`UPDATE python_installs SET state = 'rolled-back', reason = ?, ended_at = ? WHERE id = ?`).run(
      reason,
      now().toISOString(),
      id,
    )
  },
})
