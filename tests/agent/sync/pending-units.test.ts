import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import { createSyncBox, laterClock, safetensors, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined

test('a unit that waits for its marker is named with the reason, and the sync is not in trouble for it', async () => {
  await using box = createSyncBox()
  box.write('step-100/model.safetensors', safetensors('a'))
  box.write('step-100/trainer_state.json', '{"global_step": 100}')
  box.write('step-200/model.safetensors', safetensors('b'))
  box.sync.configure([box.plan({ complete_marker: 'trainer_state.json' })])
  const row = await box.runNow()
  expect(row.problem).toBeNull()
  expect(row.pending).toEqual([
    {
      unit: 'step-200',
      state: 'incomplete',
      files: 1,
      sizeBytes: safetensors('b').length,
      reason: 'trainer_state.json is missing',
    },
  ])
})

test('a checkpoint of the HF trainer without its last file waits for it, however quiet it is', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-100/model.safetensors', safetensors('a'))
  box.write('checkpoint-100/training_args.bin', 'args')
  box.sync.configure([box.plan()])
  expect((await box.runNow()).pending).toMatchObject([
    { unit: 'checkpoint-100', state: 'incomplete', reason: 'trainer_state.json is missing' },
  ])
  box.write('checkpoint-100/trainer_state.json', '{"global_step": 100}')
  expect((await box.runNow()).pending).toEqual([])
})

test('the newest unit that is stuck becomes a problem with its reason after a while', async () => {
  let laterMs = 0
  await using box = createSyncBox({ clock: laterClock(() => laterMs) })
  box.write('step-200/model.safetensors', safetensors('a'))
  box.sync.configure([box.plan({ complete_marker: 'trainer_state.json' })])
  await box.runNow()
  laterMs = 16 * 60_000
  const { problem } = await box.runNow()
  expect(problem).toMatchObject({ severity: 'warning', subject: 'checkpoints' })
  expect(problem?.message).toContain('step-200: trainer_state.json is missing')
})

test('a file that is written to for ever is said not to be copied', async () => {
  let laterMs = 0
  await using box = createSyncBox({ clock: laterClock(() => laterMs) })
  box.sync.configure([box.plan({ settle: '30m', every: '1s' })])
  box.serve()
  for (let minute = 0; minute <= 80; minute += 20) {
    laterMs = minute * 60_000
    box.write('train.log', 'line\n'.repeat(minute + 1))
    await until(() => box.sync.rows()[0]?.pending[0]?.sizeBytes === 5 * (minute + 1))
  }
  expect(box.sync.rows()[0]?.problem?.message).toContain('train.log is written to without a rest')
})

test('what waits for its turn behind a failure says so', async () => {
  await using box = createSyncBox()
  rmSync(box.remote, { recursive: true })
  box.write('../remote', 'a file where the remote should be')
  box.write('step-1/model.safetensors', safetensors('a'))
  box.sync.configure([box.plan()])
  await until(async () => (await box.runNow()).pending[0]?.state === 'queued')
  const row = await box.runNow()
  expect(row.pending[0]?.reason).toContain('until the remote works')
  expect(row.problem).not.toBeNull()
})

describe.skipIf(skipped)(skipped ? `pending units (skipped: ${rclone.reason})` : 'pending units', () => {
  const createDavBox = async (bytesPerSecond?: string) => {
    if (skipped) throw new Error(rclone.reason)
    const box = createSyncBox({ searchPath: `${rclone.folder}:/usr/bin:/bin` })
    const options = { folder: box.remote, user: 'me', password: 'a password' }
    const server = await serveWebdav(rclone.path, bytesPerSecond ? { ...options, bytesPerSecond } : options)
    const remote = {
      name: 'dav',
      type: 'webdav',
      options: { url: server.url, user: 'me', pass: options.password },
    }
    return {
      box,
      plan: (spec: Readonly<Record<string, unknown>> = {}) => box.plan(spec, { remote, to: 'run' }),
      [Symbol.asyncDispose]: async () => {
        await box[Symbol.asyncDispose]()
        await server.close()
      },
    }
  }

  test('while a copy is under way the row says how far it has come, how fast, and for how long', async () => {
    await using dav = await createDavBox('8M')
    const { box } = dav
    const path = box.write('step-1/model.safetensors', safetensors('a', 40_000_000))
    box.sync.configure([dav.plan()])
    const pass = box.runNow()
    const copying = () => box.sync.rows()[0]?.copying
    await until(() => (copying()?.bytesPerSecond ?? 0) > 0 && (copying()?.etaSeconds ?? 0) > 0)
    expect(copying()).toMatchObject({ unit: 'step-1', bytesTotal: statSync(path).size })
    expect(box.sync.rows()[0]?.pending).toMatchObject([{ unit: 'step-1', state: 'copying' }])
    expect(await pass).toMatchObject({ copying: null, pending: [] })
  })

  test('keep_local on a remote without hashes removes nothing, and says why', async () => {
    await using dav = await createDavBox()
    const { box } = dav
    for (const step of [1, 2]) box.write(`step-${step}/model.safetensors`, safetensors(`${step}`))
    box.sync.configure([dav.plan({ keep_local: 1 })])
    const row = await box.runNow()
    expect(row.problem).toMatchObject({ code: 'sync_config', severity: 'warning' })
    expect(row.problem?.message).toContain('keeps no hashes')
    expect([1, 2].map((step) => existsSync(join(box.path, `step-${step}`)))).toEqual([true, true])
  })
})
