import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase } from '../../agent/platform/database.ts'
import type { Database } from '../../agent/platform/database.ts'

/** A real state database in a folder of its own; `close` removes both. */
export const openTestDatabase = (): { readonly db: Database; readonly folder: string; close(): void } => {
  const folder = mkdtempSync(join(tmpdir(), 'ga-db-'))
  const { db } = openDatabase(folder)
  return {
    db,
    folder,
    close: () => {
      db.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
