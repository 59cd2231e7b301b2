import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText, fileError } from './files.ts'
import { programFile } from './program-file.ts'

/** “gpua” as a number: a file with another application id is not ours. */
const APPLICATION_ID = 0x67_70_75_61

export type Database = Sqlite.Database

export type OpenedDatabase = {
  readonly db: Database
  /** Where a damaged file was put aside and why; undefined when the state was sound. */
  readonly quarantined: { readonly path: string; readonly reason: string } | undefined
}

/**
 * Opens the agent's state. One process at a time (exclusive lock), WAL, every commit on disk before it is acknowledged.
 *
 * A file that SQLite cannot trust is kept as `state.db.corrupt-<time>` and a fresh one is made: the job directories,
 * the files on disk and the remotes are the truth that the state is rebuilt from. A zero-length file opens silently as
 * an empty database, so a marker beside it remembers that there was one.
 * @throws AgentError state_too_new (nothing was touched), already_running, disk_full, read_only, io_error
 */
export const openDatabase = (folder: string, now: () => Date = () => new Date()): OpenedDatabase => {
  const path = join(folder, 'state.db')
  const marker = join(folder, 'state.db.exists')
  const existed = existsSync(marker)
  const damage = existed || existsSync(path) ? findDamage(path, existed) : undefined
  let quarantined: OpenedDatabase['quarantined']
  if (damage !== undefined) {
    const kept = `${path}.corrupt-${now().toISOString().replaceAll(/[:.]/g, '-')}`
    if (existsSync(path)) renameSync(path, kept)
    for (const suffix of ['-wal', '-shm'])
      if (existsSync(path + suffix)) renameSync(path + suffix, kept + suffix)
    quarantined = { path: existsSync(kept) ? kept : path, reason: damage }
  }
  const db = connect(path)
  try {
    migrate(db, path)
    writeFileSync(marker, '')
    return { db, quarantined }
  } catch (error) {
    db.close()
    throw fileError(databaseError(error, path), `cannot prepare ${path}`)
  }
}

const connect = (path: string): Database => {
  try {
    const db = new Sqlite(path, { timeout: 0 })
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    db.pragma('journal_size_limit = 67108864')
    // With the exclusive locking mode the lock is taken by the first write, so write now.
    db.exec('BEGIN IMMEDIATE; COMMIT')
    return db
  } catch (error) {
    throw databaseError(error, path)
  }
}

/** Why the file cannot be trusted, or undefined. Refuses a newer file and a file in use before anything is changed. */
const findDamage = (path: string, expected: boolean): string | undefined => {
  if (!existsSync(path)) return 'the file is gone'
  if (statSync(path).size === 0) return expected ? 'the file is empty' : undefined
  refuseNewer(path)
  let db: Database | undefined
  try {
    db = new Sqlite(path, { timeout: 0 })
    const { version, application } = identify(db)
    const tables = Number(db.prepare('SELECT count(*) FROM sqlite_master').pluck().get())
    if (application !== APPLICATION_ID && (version !== 0 || tables !== 0))
      return `the file belongs to another program (${application})`
    const check = db.pragma('quick_check(1)', { simple: true })
    return check === 'ok' ? undefined : `the check found: ${String(check)}`
  } catch (error) {
    if (isCode(error, 'SQLITE_CORRUPT', 'SQLITE_NOTADB')) return errorText(error)
    throw databaseError(error, path)
  } finally {
    db?.close()
  }
}

/** Looks at the version through a read-only connection: an ordinary one would write the log into the file on closing. */
const refuseNewer = (path: string): void => {
  let db: Database | undefined
  try {
    db = new Sqlite(path, { timeout: 0, readonly: true })
    const { version, application } = identify(db)
    const newest = migrationFiles().length
    if (application === APPLICATION_ID && version > newest)
      throw new AgentError('state_too_new', `${path} has version ${version}, this agentd knows ${newest}`)
  } catch (error) {
    // Damaged, in use, or in need of recovery: the check that follows meets it again and can say which.
    if (error instanceof AgentError) throw error
  } finally {
    db?.close()
  }
}

const identify = (db: Database): { version: number; application: number } => ({
  version: Number(db.pragma('user_version', { simple: true })),
  application: Number(db.pragma('application_id', { simple: true })),
})

const MIGRATIONS = programFile(import.meta.dirname, 'migrations', 'migrations')

const migrationFiles = (): string[] =>
  readdirSync(MIGRATIONS)
    .filter((name) => /^\d{3}-.*\.sql$/.test(name))
    .sort()

/** Applies the numbered files that this database has not seen, each in a transaction, after a backup. */
const migrate = (db: Database, path: string): void => {
  const files = migrationFiles()
  const version = Number(db.pragma('user_version', { simple: true }))
  if (version === files.length) return
  if (version > 0) backup(db, `${path}.before-${files.length}`)
  for (const [index, file] of files.entries()) {
    if (index < version) continue
    db.transaction(() => {
      db.exec(readFileSync(join(MIGRATIONS, file), 'utf8'))
      db.pragma(`user_version = ${index + 1}`)
      db.pragma(`application_id = ${APPLICATION_ID}`)
    }).immediate()
  }
}

const backup = (db: Database, to: string): void => {
  db.pragma('wal_checkpoint(TRUNCATE)')
  rmSync(to, { force: true })
  copyFileSync(db.name, to)
}

/**
 * What SQLite threw under an agent that runs, as an AgentError: disk_full, read_only, io_error. It says only “disk I/O
 * error” on a file system that went read-only, so it is tried. Anything else passes through unchanged.
 */
export const stateFailure = (error: unknown, folder: string): unknown => {
  if (!isCode(error, 'SQLITE_FULL', 'SQLITE_READONLY', 'SQLITE_CANTOPEN', 'SQLITE_IOERR')) return error
  const path = join(folder, 'state.db')
  if (isCode(error, 'SQLITE_FULL')) return databaseError(error, path)
  const probe = join(folder, `.probe.${process.pid}.tmp`)
  try {
    writeFileSync(probe, '')
    rmSync(probe)
    return new AgentError('io_error', `${path}: ${errorText(error)}`, { cause: error })
  } catch (cause) {
    return fileError(cause, `cannot write ${path}`)
  }
}

const isCode = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && codes.some((code) => String(error.code).startsWith(code))

const databaseError = (error: unknown, path: string): unknown => {
  if (isCode(error, 'SQLITE_BUSY', 'SQLITE_LOCKED'))
    return new AgentError('already_running', `another agentd holds ${path}`, { cause: error })
  if (isCode(error, 'SQLITE_FULL'))
    return new AgentError('disk_full', `no room for ${path}`, { cause: error })
  if (isCode(error, 'SQLITE_READONLY', 'SQLITE_CANTOPEN'))
    return new AgentError('home_unusable', `cannot open ${path}: ${errorText(error)}`, { cause: error })
  if (isCode(error, 'SQLITE'))
    return new AgentError('io_error', `${path}: ${errorText(error)}`, { cause: error })
  return error
}
