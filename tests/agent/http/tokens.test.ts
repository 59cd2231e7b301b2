import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createFailureLimit } from '../../../agent/http/failure-limit.ts'
import { takeInjectedToken } from '../../../agent/http/injected-token.ts'
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

test('a token counts until it expires', () => {
  let now = new Date('2026-01-01T00:00:00Z')
  const clock = { ...systemClock, now: () => now }
  const tokens = createTokens({ db: opened.db, clock, report: () => undefined })
  const { token } = tokens.create({ name: 'laptop', scope: 'read', expiresAt: '2026-01-02T00:00:00Z' })
  now = new Date('2026-01-01T23:59:59Z')
  expect(tokens.verify(token)?.lastUsedAt).toBeNull()
  now = new Date('2026-01-02T00:00:00Z')
  expect(tokens.verify(token)).toBeUndefined()
})

describe('a token that a box is created with', () => {
  const hash = createHash('sha256').update('the-secret').digest('hex')
  const taken = (text: string | undefined) => {
    const tokens = makeTokens()
    takeInjectedToken(text, { tokens, db: opened.db })
    return tokens
  }

  test('is taken once, stays revoked once it was, and goes when another one comes', () => {
    expect(taken(undefined).list()).toEqual([])
    expect(taken(`abcdef01:${hash}:operate`).verify('abcdef01.the-secret')).toMatchObject({
      name: 'injected',
      scope: 'operate',
    })
    expect(taken(`abcdef01:${hash}:operate`).list()).toHaveLength(1)
    makeTokens().revoke('abcdef01')
    expect(taken(`abcdef01:${hash}:operate`).list()).toEqual([])
    taken(`abcdef02:${hash}:read`)
    expect(taken(`abcdef03:${hash}:admin`).list()).toMatchObject([{ id: 'abcdef03', scope: 'admin' }])
  })

  test.each([
    '',
    'x',
    `ab:${hash}:admin`,
    `abcdef01:${hash}:root`,
    `abcdef01:${hash}`,
    'abcdef01:secret:admin',
  ])('%j is refused', (text) => {
    expect(() => taken(text)).toThrow(expect.objectContaining({ code: 'usage' }) as Error)
    expect(makeTokens().list()).toEqual([])
  })
})

test('failures of one source are limited on their own, of all sources together, and forgiven evenly', () => {
  let monotonicMs = 0
  const limit = createFailureLimit({ monotonicMs: () => monotonicMs })
  const taken = (source: string, times: number) =>
    Array.from({ length: times }, () => limit.take(source)).filter(Boolean).length
  expect(taken('203.0.113.1', 20)).toBe(10)
  expect(taken('2001:db8:0:1::5', 20)).toBe(10)
  // One customer's network is one source.
  expect(taken('2001:db8::1:0:0:0:6', 20)).toBe(0)
  for (const source of ['a', 'b', 'c', 'd']) expect(taken(source, 20)).toBe(10)
  expect(taken('e', 20)).toBe(0)
  monotonicMs += 12_000
  expect(taken('203.0.113.1', 20)).toBe(2)
  for (let number = 0; number < 5_000; number += 1) limit.take(`198.51.100.${number}`)
  monotonicMs += 60_000
  expect(taken('203.0.113.1', 20)).toBe(10)
})
