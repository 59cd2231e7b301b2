import { afterEach, beforeEach, expect, test } from 'vitest'
import { ensureLocalToken } from '../../../agent/http/local-token.ts'
import { createTokens } from '../../../agent/http/tokens.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'
import { readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

let opened: ReturnType<typeof openTestDatabase>
beforeEach(() => {
  opened = openTestDatabase()
})
afterEach(() => opened.close())
const makeTokens = () => createTokens({ db: opened.db, clock: systemClock, report: () => undefined })

test('a token opens the door until it is revoked', () => {
  const tokens = makeTokens()
  const { token, row } = tokens.create({ name: 'laptop', scope: 'operate' })
  expect(tokens.verify(token)).toMatchObject({ name: 'laptop', scope: 'operate' })
  tokens.revoke(row.id)
  expect(tokens.verify(token)).toBeUndefined()
  expect(() => tokens.revoke(row.id)).toThrow('there is no token')
})

test.each(['', '.', 'x', 'x.y', 'ID.', '.SECRET', 'ID.SECRETx', 'ID.secret'])(
  'the wrong token %j is refused',
  (shape) => {
    const tokens = makeTokens()
    const { token } = tokens.create({ name: 'laptop', scope: 'admin' })
    const [id = '', secret = ''] = token.split('.')
    expect(tokens.verify(shape.replace('ID', id).replace('SECRET', secret))).toBeUndefined()
  },
)

test('the secret half is nowhere in the database file', () => {
  const tokens = makeTokens()
  const { token } = tokens.create({ name: 'laptop', scope: 'admin' })
  opened.db.pragma('wal_checkpoint(TRUNCATE)')
  const bytes = readFileSync(join(opened.folder, 'state.db'), 'latin1')
  expect(bytes).toContain('laptop')
  expect(bytes).not.toContain(token.split('.')[1])
})

test('the local token is readable by its user alone, survives a restart, and is made anew when its file is gone', () => {
  const tokens = makeTokens()
  const path = join(opened.folder, 'local-token')
  ensureLocalToken(opened.folder, tokens)
  const first = readFileSync(path, 'utf8')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  ensureLocalToken(opened.folder, tokens)
  expect(readFileSync(path, 'utf8')).toBe(first)
  rmSync(path)
  ensureLocalToken(opened.folder, tokens)
  expect(tokens.verify(first.trim())).toBeUndefined()
  expect(tokens.verify(readFileSync(path, 'utf8').trim())?.scope).toBe('admin')
})
