import { AgentError } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Database } from '../platform/database.ts'

/** One file of a stored copy: what the record on the remote says of it too. */
export type StoredFile = { readonly path: string; readonly sizeBytes: number; readonly sha256: string }

/** What is known of a unit at a destination. `started`: a copy began, so what lies there may be a part. */
export type UnitCopy = {
  readonly digest: string
  readonly state: 'started' | 'stored'
  readonly verifiedBy: 'hash' | 'size' | null
  readonly files: readonly StoredFile[]
}

/** `fingerprint`: of the unit that a stored copy holds, where it is known. */
export type KeptCopy = UnitCopy & { readonly fingerprint: string | undefined }

/** How a sync is doing, kept over restarts. */
export type KeptHealth = {
  readonly lastSuccessAt: string | null
  readonly consecutiveFailures: number
  readonly problem: Problem | null
}

export type UnitKey = { readonly sync: string; readonly destination: string; readonly unit: string }

/** Days after which the hash of a file that was not hashed again is forgotten. */
const KEEP_HASHES_DAYS = 90

export type SyncStore = ReturnType<typeof createSyncStore>

/** The rows of the sync room. */
export const createSyncStore = (db: Database, now: () => Date) => {
  const copies = db.prepare<[string, string], UnitRow>(
    'SELECT unit, digest, state, verified_by, files, fingerprint FROM sync_units WHERE sync = ? AND destination = ? ORDER BY rowid',
  )
  const saveCopy = db.prepare(
    // A row that is replaced goes to the end, as what was stored last.
    `INSERT OR REPLACE INTO sync_units (sync, destination, unit, digest, state, verified_by, files, stored_at)
     VALUES (@sync, @destination, @unit, @digest, @state, @verifiedBy, @files, @storedAt)`,
  )
  const saveMatch = db.prepare<[string, string, string, string]>(
    'UPDATE sync_units SET fingerprint = ? WHERE sync = ? AND destination = ? AND unit = ?',
  )
  const forgetCopy = db.prepare<[string, string, string]>(
    'DELETE FROM sync_units WHERE sync = ? AND destination = ? AND unit = ?',
  )
  const health = db.prepare<[string], HealthRow>(
    'SELECT last_success_at, consecutive_failures, problem FROM sync_state WHERE sync = ?',
  )
  const saveHealth = db.prepare(
    `INSERT INTO sync_state (sync, last_success_at, consecutive_failures, problem)
     VALUES (@sync, @lastSuccessAt, @consecutiveFailures, @problem)
     ON CONFLICT DO UPDATE SET last_success_at = excluded.last_success_at,
       consecutive_failures = excluded.consecutive_failures, problem = excluded.problem`,
  )
  const hash = db.prepare<[string, string], { value: string }>(
    'SELECT value FROM sync_hashes WHERE fingerprint = ? AND algorithm = ?',
  )
  const saveHash = db.prepare('INSERT OR REPLACE INTO sync_hashes VALUES (?, ?, ?, ?)')
  const forgetHashes = db.prepare('DELETE FROM sync_hashes WHERE hashed_at < ?')

  return {
    copies: (sync: string, destination: string): ReadonlyMap<string, KeptCopy> =>
      new Map(copies.all(sync, destination).map((row) => [row.unit, copyOf(row)])),
    saveCopy: (key: UnitKey, copy: UnitCopy): void => {
      const storedAt = copy.state === 'stored' ? now().toISOString() : null
      try {
        saveCopy.run({ ...key, ...copy, files: JSON.stringify(copy.files), storedAt })
      } catch (error) {
        throw stateError(error)
      }
    },
    /** Notes which unit a copy holds. */
    saveMatch: ({ sync, destination, unit }: UnitKey, fingerprint: string): void => {
      try {
        saveMatch.run(fingerprint, sync, destination, unit)
      } catch (error) {
        // Without it hashes decide after a restart.
        if (!isFull(error)) throw error
      }
    },
    forgetCopy: (key: UnitKey): void => void forgetCopy.run(key.sync, key.destination, key.unit),

    health: (sync: string): KeptHealth => {
      const row = health.get(sync)
      return {
        lastSuccessAt: row?.last_success_at ?? null,
        consecutiveFailures: row?.consecutive_failures ?? 0,
        problem: row?.problem ? (JSON.parse(row.problem) as Problem) : null,
      }
    },
    saveHealth: (sync: string, value: KeptHealth): void => {
      saveHealth.run({ ...value, sync, problem: value.problem ? JSON.stringify(value.problem) : null })
    },

    hash: (fingerprint: string, algorithm: string): string | undefined =>
      hash.get(fingerprint, algorithm)?.value,
    saveHash: (fingerprint: string, algorithm: string, value: string): void => {
      try {
        saveHash.run(fingerprint, algorithm, value, now().toISOString())
      } catch (error) {
        // A hash that is not kept is worked out again.
        if (!isFull(error)) throw error
      }
    },
    /** Drops hashes of files that nobody asked about for long; call it once at start. */
    forgetOldHashes: (): void => {
      forgetHashes.run(new Date(now().getTime() - KEEP_HASHES_DAYS * 864e5).toISOString())
    },
  }
}

/** Without room for what is known of a copy none is begun: after a crash nobody would know of it (S30). */
const stateError = (error: unknown): unknown =>
  isFull(error)
    ? new AgentError('disk_full', 'the agent’s own state cannot be written: its disk is full', {
        cause: error,
      })
    : error

const isFull = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'SQLITE_FULL'

type UnitRow = {
  unit: string
  digest: string
  state: 'started' | 'stored'
  verified_by: 'hash' | 'size' | null
  files: string
  fingerprint: string | null
}
type HealthRow = { last_success_at: string | null; consecutive_failures: number; problem: string | null }

const copyOf = (row: UnitRow): KeptCopy => ({
  digest: row.digest,
  state: row.state,
  verifiedBy: row.verified_by,
  files: JSON.parse(row.files) as StoredFile[],
  fingerprint: row.fingerprint ?? undefined,
})
