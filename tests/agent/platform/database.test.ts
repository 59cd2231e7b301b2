import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openDatabase } from '../../../agent/platform/database.ts'
import { numbersFrom, temporaryFolder } from './temporary-folder.ts'

const program = (name: string): string => join(import.meta.dirname, 'programs', name)

const openFor = (folder: string) => {
  const opened = openDatabase(folder)
  onTestFinished(() => {
    opened.db.close()
  })
  return opened
}

/** A closed database with a few hundred pages of rows. */
const filledDatabase = (folder: string): string => {
  const { db } = openDatabase(folder)
  const insert = db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)')
  db.transaction(() => {
    for (let row = 0; row < 2000; row += 1) insert.run(`key ${row}`, 'v'.repeat(400))
  })()
  db.close()
  return join(folder, 'state.db')
}

const bytesOf = (folder: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    readdirSync(folder)
      .filter((name) => !name.endsWith('-shm') && statSync(join(folder, name)).size > 0)
      .map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex'),
      ]),
  )

describe('a database in use', () => {
  test('a second opener is told that another agent holds it, and the first goes on', async () => {
    const folder = temporaryFolder()
    const holder = spawn(process.execPath, [program('hold-database.ts'), folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')

    expect(() => openDatabase(folder)).toThrow(expect.objectContaining({ code: 'already_running' }))
    expect(readdirSync(folder).filter((name) => name.includes('corrupt'))).toEqual([])

    holder.kill('SIGKILL')
    await once(holder, 'exit')
    expect(openFor(folder).quarantined).toBeUndefined()
  })
})

describe('T16: a writer killed at random moments', () => {
  test('loses no acknowledged row in 45 kills, and the file stays sound', { timeout: 240_000 }, async () => {
    const folder = temporaryFolder()
    const next = numbersFrom(16_001)
    let acknowledged = 0
    let roundsWithRows = 0
    for (let round = 0; round < 45; round += 1) {
      const writer = spawn(process.execPath, [program('commit-rows.ts'), folder, String(acknowledged + 1)])
      let output = ''
      let complaint = ''
      writer.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
      writer.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()))
      const closed = once(writer, 'close')
      // Every third is killed while it starts, opens and migrates; the others in the middle of their commits.
      if (round % 3 === 0) await delay(next(400))
      else {
        await Promise.race([once(writer.stdout, 'data'), closed])
        await delay(next(120))
      }
      writer.kill('SIGKILL')
      await closed
      expect(complaint).toBe('')

      const numbers = output.split('\n').slice(0, -1).map(Number)
      if (numbers.length > 0) roundsWithRows += 1
      const last = numbers.at(-1) ?? acknowledged
      const { db, quarantined } = openDatabase(folder)
      try {
        expect(quarantined, `round ${round}`).toBeUndefined()
        expect(db.pragma('integrity_check', { simple: true }), `round ${round}`).toBe('ok')
        if (last > 0) {
          const row = db.prepare('SELECT count(*) AS rows, max(number) AS newest FROM committed').get() as {
            rows: number
            newest: number
          }
          // No gap, all that was acknowledged, and at most the one row whose acknowledgement did not get out.
          expect(row.rows, `round ${round}`).toBe(row.newest)
          expect(row.newest - last, `round ${round}`).toBeOneOf([0, 1])
          acknowledged = row.newest
        }
      } finally {
        db.close()
      }
    }
    expect(roundsWithRows).toBeGreaterThanOrEqual(30)
    expect(acknowledged).toBeGreaterThan(300)
  })
})

describe('T17: a damaged database', () => {
  const damages = [
    { title: 'of zero length', damage: (path: string) => truncateSync(path, 0), reason: 'the file is empty' },
    {
      title: 'with a bad header',
      damage: (path: string) => overwrite(path, 0, Buffer.from('not a database, surely')),
      reason: 'file is not a database',
    },
    {
      title: 'with a page of zeroes',
      damage: (path: string) => overwrite(path, 60 * 4096, Buffer.alloc(4096)),
      reason: 'the check found',
    },
    {
      title: 'with pages of something else',
      damage: (path: string) => overwrite(path, 5 * 4096, Buffer.alloc(40 * 4096, 0xa5)),
      reason: 'malformed',
    },
    {
      title: 'cut in the middle',
      damage: (path: string) => truncateSync(path, Math.floor(statSync(path).size / 2)),
      reason: 'malformed',
    },
    {
      title: 'of another program',
      damage: (path: string) => {
        const other = new Sqlite(`${path}.other`)
        other.exec('CREATE TABLE theirs (a)')
        other.close()
        copyFileSync(`${path}.other`, path)
      },
      reason: 'belongs to another program',
    },
  ]
  const overwrite = (path: string, offset: number, bytes: Buffer): void => {
    const whole = readFileSync(path)
    bytes.copy(whole, offset)
    writeFileSync(path, whole)
  }

  test.each(damages)('$title is kept beside a fresh one that works', ({ damage, reason }) => {
    const folder = temporaryFolder()
    const path = filledDatabase(folder)
    damage(path)
    const damaged = readFileSync(path)

    const { db, quarantined } = openFor(folder)
    expect(quarantined?.reason).toContain(reason)
    expect(quarantined?.path).toMatch(/state\.db\.corrupt-\d{4}-\d\d-\d\dT/)
    expect(readFileSync(quarantined?.path ?? '').equals(damaged)).toBe(true)
    expect(db.prepare('SELECT count(*) FROM meta').pluck().get()).toBe(0)
    db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)').run('a', 'b')
    db.close()
    expect(openFor(folder).quarantined).toBeUndefined()
  })

  test('a file that vanished is told, for there was one', () => {
    const folder = temporaryFolder()
    rmSync(filledDatabase(folder))
    expect(openFor(folder).quarantined?.reason).toBe('the file is gone')
    expect(readdirSync(folder).filter((name) => name.includes('corrupt'))).toEqual([])
  })

  test('a first start finds nothing to complain of', () => {
    expect(openFor(temporaryFolder()).quarantined).toBeUndefined()
  })
})

describe('T18: a database of a newer agent', () => {
  test.each([1, 7])('%i versions ahead is refused and not one byte is touched', (ahead) => {
    const folder = temporaryFolder()
    const path = filledDatabase(folder)
    const raw = new Sqlite(path)
    const version = Number(raw.pragma('user_version', { simple: true }))
    raw.pragma(`user_version = ${version + ahead}`)
    raw.close()
    const before = bytesOf(folder)

    expect(() => openDatabase(folder)).toThrow(
      expect.objectContaining({
        code: 'state_too_new',
        message: expect.stringContaining(
          `has version ${version + ahead}, this agentd knows ${version}`,
        ) as string,
      }),
    )
    expect(bytesOf(folder)).toEqual(before)
  })

  test('is refused untouched also when it was killed with its version still in the log', async () => {
    const folder = temporaryFolder()
    filledDatabase(folder)
    const newer = spawn(process.execPath, [program('hold-database.ts'), folder, '99'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(newer.stdout, 'data')
    newer.kill('SIGKILL')
    await once(newer, 'exit')
    const before = bytesOf(folder)
    expect(Object.keys(before)).toContain('state.db-wal')

    expect(() => openDatabase(folder)).toThrow(expect.objectContaining({ code: 'state_too_new' }))
    expect(bytesOf(folder)).toEqual(before)
  })
})

describe('a database of an older agent', () => {
  test('is kept as it was before it is brought to the newest version', () => {
    const folder = temporaryFolder()
    const path = join(folder, 'state.db')
    const migrations = join(import.meta.dirname, '../../../agent/platform/migrations')
    const [first = ''] = readdirSync(migrations).sort()
    const old = new Sqlite(path)
    old.exec(readFileSync(join(migrations, first), 'utf8'))
    old.exec("INSERT INTO meta (key, value) VALUES ('agent', 'old')")
    old.pragma('user_version = 1')
    old.pragma('application_id = 0x67707561')
    old.close()

    const { db, quarantined } = openFor(folder)
    expect(quarantined).toBeUndefined()
    expect(db.prepare("SELECT value FROM meta WHERE key = 'agent'").pluck().get()).toBe('old')
    const newest = Number(db.pragma('user_version', { simple: true }))
    expect(newest).toBeGreaterThan(1)
    const kept = new Sqlite(`${path}.before-${newest}`, { readonly: true })
    onTestFinished(() => {
      kept.close()
    })
    expect(kept.pragma('user_version', { simple: true })).toBe(1)
    expect(kept.prepare("SELECT value FROM meta WHERE key = 'agent'").pluck().get()).toBe('old')
  })
})

const canTrace = spawnSync('strace', ['-o', '/dev/null', '-e', 'inject=fsync:error=EIO', 'true']).status === 0

describe('T20: a disk that fails to keep what it was given', () => {
  test.skipIf(!canTrace)(
    `no row is acknowledged after the disk said no${canTrace ? '' : ' (skipped: strace cannot trace here)'}`,
    () => {
      const folder = temporaryFolder()
      openDatabase(folder).db.close()
      const failing = ['fsync', 'fdatasync'].map((call) => `inject=${call}:error=EIO:when=20+`)
      const traced = spawnSync(
        'strace',
        [
          '-o',
          '/dev/null',
          ...failing.flatMap((rule) => ['-e', rule]),
          process.execPath,
          program('commit-rows.ts'),
          folder,
          '1',
        ],
        { timeout: 30_000, encoding: 'utf8' },
      )
      expect(traced.status).not.toBe(0)
      expect(traced.stderr).toContain('SQLITE_IOERR_FSYNC')
      const acknowledged = traced.stdout.split('\n').filter(Boolean).length
      expect(acknowledged).toBeGreaterThan(0)
      expect(acknowledged).toBeLessThan(25)

      const { db } = openFor(folder)
      expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
      expect(Number(db.prepare('SELECT count(*) FROM committed').pluck().get())).toBeGreaterThanOrEqual(
        acknowledged,
      )
      expect(existsSync(join(folder, 'state.db'))).toBe(true)
    },
  )
})
