import type { PythonInstallRow } from '../../shared/contract/python-records.ts'
import type { Database } from '../platform/database.ts'

type Row = {
  readonly id: string
  readonly state: PythonInstallRow['state']
  readonly changes: string
  readonly reason: string | null
  readonly began_at: string
  readonly ended_at: string | null
}

/** An install as the record has it. */
export type RecordedInstall = Omit<PythonInstallRow, 'canRollBack'>

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
  /** The install, and those after it that stood on it. */
  rolledBack: (id: string, reason: string): void => {
    db.prepare(
      `UPDATE python_installs SET state = 'rolled-back', reason = ?, ended_at = ?
       WHERE state <> 'rolled-back'
         AND rowid >= (SELECT rowid FROM python_installs WHERE id = ?)
         AND overlay = (SELECT overlay FROM python_installs WHERE id = ?)`,
    ).run(reason, now().toISOString(), id, id)
  },
  /** Newest first. */
  list: (overlay: string, limit: number): readonly RecordedInstall[] =>
    db
      .prepare<[string, number], Row>(
        'SELECT * FROM python_installs WHERE overlay = ? ORDER BY rowid DESC LIMIT ?',
      )
      .all(overlay, limit)
      .map((row) => ({
        id: row.id,
        state: row.state,
        changes: JSON.parse(row.changes) as PythonInstallRow['changes'],
        reason: row.reason,
        beganAt: row.began_at,
        endedAt: row.ended_at,
      })),
  isCommitted: (id: string): boolean =>
    db.prepare<[string], { state: string }>('SELECT state FROM python_installs WHERE id = ?').get(id)
      ?.state === 'committed',
})
