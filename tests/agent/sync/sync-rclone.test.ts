import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkRemote } from '../../../agent/sync/check-remote.ts'
import type { PlannedRemote } from '../../../agent/sync/planned-sync.ts'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import { createSyncBox, safetensors, sha256, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const title = skipped ? `rclone (skipped: ${rclone.reason})` : `rclone ${rclone.version}`
const PASSWORD = 'correct horse battery'

/** A box and a webdav server whose folder is the box's `remote`. */
const createWebdavBox = async (access: { mayWrite?: boolean } = {}) => {
  if (skipped) throw new Error(rclone.reason)
  const box = createSyncBox({ searchPath: `${rclone.folder}:/usr/bin:/bin` })
  const server = await serveWebdav(rclone.path, {
    folder: box.remote,
    user: 'me',
    password: PASSWORD,
    ...access,
  })
  const remote = (options: Readonly<Record<string, string>> = {}): PlannedRemote => ({
    name: 'my-dav',
    type: 'webdav',
    options: { url: server.url, user: 'me', pass: PASSWORD, ...options },
  })
  const check = (planned: PlannedRemote) =>
    checkRemote(box.plan({}, { remote: planned, to: 'run-1' }), {
      searchPath: `${rclone.folder}:/usr/bin:/bin`,
      temporaryFolder: box.temporaryFolder,
      environment: {},
      signal: AbortSignal.timeout(40_000),
    })
  return {
    ...box,
    box,
    server,
    remote,
    check,
    planDav: (spec: Readonly<Record<string, unknown>> = {}, options: Readonly<Record<string, string>> = {}) =>
      box.plan(spec, { remote: remote(options), to: 'run-1' }),
    [Symbol.asyncDispose]: async () => {
      await box[Symbol.asyncDispose]()
      await server.close()
    },
  }
}

describe.skipIf(skipped)(title, () => {
  test('stores a checkpoint on webdav and proves it by size', async () => {
    await using dav = await createWebdavBox()
    dav.write('checkpoint-100/model.safetensors', safetensors('a', 3_000_000))
    dav.write('checkpoint-100/name with spaces .txt', 'x')
    dav.write('checkpoint-100/trainer_state.json', '{"global_step": 100}')
    dav.sync.configure([dav.planDav()])
    const row = await dav.box.runNow()
    expect(row.problem).toBeNull()
    expect(dav.box.storedNames().sort()).toEqual([
      'run-1/.gpu-agent/checkpoint-100.json',
      'run-1/checkpoint-100/model.safetensors',
      'run-1/checkpoint-100/name with spaces .txt',
      'run-1/checkpoint-100/trainer_state.json',
    ])
    const stored = readFileSync(join(dav.box.remote, 'run-1/checkpoint-100/model.safetensors'))
    expect(sha256(stored)).toBe(sha256(safetensors('a', 3_000_000)))
    const copied = dav.events.find(({ type }) => type === 'sync.copied')
    expect(copied?.data).toMatchObject({ unit: 'checkpoint-100', verifiedBy: 'size' })
    // Case S53: where a laptop may go on when the box is gone; no address and no credentials.
    const { remote, digest } = await dav.sync.checkpointFiles({ sync: null, name: 'checkpoint-100' })
    expect(remote).toBe('my-dav:run-1')
    const record = readFileSync(join(dav.box.remote, 'run-1/.gpu-agent/checkpoint-100.json'), 'utf8')
    expect(JSON.parse(record)).toMatchObject({ digest })
  })

  test('S33: a change of the same size is stored, the older bytes are kept beside it', async () => {
    await using dav = await createWebdavBox()
    dav.write('model.safetensors', safetensors('a'))
    dav.sync.configure([dav.planDav()])
    await dav.box.runNow()
    dav.write('model.safetensors', safetensors('b'))
    const row = await dav.box.runNow()
    expect(row.problem).toBeNull()
    expect(readFileSync(join(dav.box.remote, 'run-1/model.safetensors'))).toEqual(safetensors('b'))
    const kept = dav.box.storedNames().find((name) => /^run-1\/model\.safetensors~[0-9a-f]{8}$/.test(name))!
    expect(readFileSync(join(dav.box.remote, kept))).toEqual(safetensors('a'))
  })

  test('a copy whose record is there is not sent again when the agent lost its state', async () => {
    await using dav = await createWebdavBox()
    dav.write('model.safetensors', safetensors('a'))
    dav.sync.configure([dav.planDav()])
    await dav.box.runNow()
    const stored = join(dav.box.remote, 'run-1/model.safetensors')
    const { mtimeMs, ino } = statSync(stored)
    await using other = createSyncBox({ searchPath: `${skipped ? '' : rclone.folder}:/usr/bin:/bin` })
    other.write('model.safetensors', safetensors('a'))
    other.sync.configure([other.plan({}, { remote: dav.remote(), to: 'run-1' })])
    expect(await other.runNow()).toMatchObject({ problem: null, pendingFiles: 0 })
    expect(statSync(stored)).toMatchObject({ mtimeMs, ino })
  })

  test('S17, incident B6: a wrong password is found at plan time and named as such', async () => {
    await using dav = await createWebdavBox()
    const problem = await dav.check(dav.remote({ pass: 'wrong password' }))
    expect(problem).toMatchObject({ code: 'sync_auth', severity: 'error', subject: 'checkpoints' })
    expect(problem?.message).toContain('my-dav')
    expect(problem?.message).not.toContain('wrong password')
  })

  test('incident B6: a right one is proven by a real listing and a small file that reads back', async () => {
    await using dav = await createWebdavBox()
    expect(await dav.check(dav.remote())).toBeNull()
    const written = readdirSync(dav.box.remote, { recursive: true, withFileTypes: true })
    expect(written.filter((entry) => entry.isFile()).map(({ name }) => name)).toEqual(['may-write'])
  })

  test('a remote of rclone that is a disk of this box is looked at, not written to', async () => {
    await using dav = await createWebdavBox()
    const to = join(dav.home, 'not-yet/run-1')
    const local = { name: 'disk', type: 'local', options: {} }
    const context = {
      temporaryFolder: dav.temporaryFolder,
      environment: {},
      signal: AbortSignal.timeout(9_000),
      searchPath: `${skipped ? '' : rclone.folder}:/usr/bin:/bin`,
    }
    expect(await checkRemote(dav.box.plan({}, { remote: local, to }), context)).toBeNull()
    expect(existsSync(join(dav.home, 'not-yet'))).toBe(false)
    const inside = await checkRemote(dav.box.plan({}, { remote: local, to: dav.box.path }), context)
    expect(inside).toMatchObject({ code: 'sync_config' })
  })

  test('incident B6: credentials that may read and not write are found at plan time', async () => {
    await using dav = await createWebdavBox({ mayWrite: false })
    const problem = await dav.check(dav.remote())
    expect(problem).toMatchObject({ severity: 'error', subject: 'checkpoints' })
    expect(problem?.message).toContain('my-dav')
    expect(readdirSync(dav.box.remote)).toEqual([])
  })

  test.each([
    ['an unknown type', { type: 'nosuch' }, 'sync_config'],
    ['an unknown option', { options: { urll: 'x' } }, 'sync_config'],
    ['nobody listening', { options: { url: 'http://127.0.0.1:1' } }, 'remote_unreachable'],
  ])('a remote with %s is refused at plan time', async (_name, change, code) => {
    await using dav = await createWebdavBox()
    const problem = await dav.check({ ...dav.remote(), ...change })
    expect(problem?.code).toBe(code)
  })

  test('S27, incident B9: without rclone, or with an old one, the plan says so', async () => {
    await using dav = await createWebdavBox()
    const folder = join(dav.home, 'bin')
    const context = {
      temporaryFolder: dav.temporaryFolder,
      environment: {},
      signal: AbortSignal.timeout(9_000),
    }
    mkdirSync(folder)
    const none = await checkRemote(dav.planDav(), { ...context, searchPath: folder })
    expect(none).toMatchObject({ code: 'program_missing' })
    writeFileSync(join(folder, 'rclone'), '#!/bin/sh\necho rclone v1.60.1-DEV\n', { mode: 0o755 })
    const old = await checkRemote(dav.planDav(), { ...context, searchPath: folder })
    expect(old).toMatchObject({ code: 'program_missing' })
    expect(old?.message).toContain('1.60.1')
  })

  test('S17: wrong credentials end in failing, not in a loop of calls', async () => {
    await using dav = await createWebdavBox()
    dav.write('model.safetensors', safetensors('a'))
    dav.sync.configure([dav.planDav({}, { pass: 'wrong password' })])
    dav.box.serve()
    await until(() => dav.sync.rows()[0]?.state === 'failing')
    expect(dav.sync.rows()[0]).toMatchObject({ consecutiveFailures: 1, problem: { code: 'sync_auth' } })
    expect(dav.sync.rows()[0]?.lastSuccessAt).toBeNull()
  })
})
