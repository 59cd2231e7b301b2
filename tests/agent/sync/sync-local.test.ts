import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createSyncBox, safetensors, sha256, until } from './support/sync-box.ts'

describe('a sync to a local path', () => {
  test('stores files at the destination plus their path, and says so', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-100/model.safetensors', safetensors('a'))
    box.write('checkpoint-100/trainer_state.json', '{"global_step": 100}')
    box.write('config.json', '{}')
    box.sync.configure([box.plan()])
    const row = await box.runNow()
    expect(row).toMatchObject({ pendingFiles: 0, pendingBytes: 0, consecutiveFailures: 0, problem: null })
    expect(row.lastSuccessAt).not.toBeNull()
    expect(box.storedNames()).toEqual([
      'checkpoint-100/model.safetensors',
      'checkpoint-100/trainer_state.json',
      'config.json',
    ])
    expect(readFileSync(join(box.remote, 'checkpoint-100/model.safetensors'))).toEqual(safetensors('a'))
    expect(box.events.filter(({ type }) => type === 'sync.copied').map(({ data }) => data?.['unit'])).toEqual(
      expect.arrayContaining(['checkpoint-100', 'config.json']),
    )
  })

  test('writes a record with every hash last, beside the files', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-100/model.safetensors', safetensors('a'))
    box.sync.configure([box.plan()])
    await box.runNow()
    const record = JSON.parse(box.stored('.gpu-agent/checkpoint-100.json')) as { files: unknown }
    expect(record.files).toEqual([
      {
        path: 'checkpoint-100/model.safetensors',
        sizeBytes: safetensors('a').length,
        sha256: sha256(safetensors('a')),
      },
    ])
  })

  test('copies only what include and exclude choose', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    box.write('checkpoint-1/optimizer.pt', 'not chosen')
    box.write('checkpoint-1/secret.json', '{}')
    box.sync.configure([box.plan({ include: ['**/*.safetensors', '**/*.json'], exclude: ['**/secret.*'] })])
    await box.runNow()
    expect(box.storedNames()).toEqual(['checkpoint-1/model.safetensors'])
  })

  test('copies nothing twice, also after a restart of the agent', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    box.sync.configure([box.plan()])
    await box.runNow()
    box.restart()
    box.sync.configure([box.plan()])
    const row = await box.runNow()
    expect(row.problem).toBeNull()
    expect(box.events.filter(({ type }) => type === 'sync.copied')).toHaveLength(1)
  })

  test('after a restart of the agent what is stored is not pending, however long it has to rest', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    box.sync.configure([box.plan()])
    await box.runNow()
    box.restart()
    box.write('checkpoint-2/model.safetensors', safetensors('b'))
    box.sync.configure([box.plan({ settle: '1h' })])
    box.serve()
    await until(() => box.sync.rows()[0]?.pending.length !== 0)
    expect(box.sync.rows()[0]).toMatchObject({
      pendingFiles: 1,
      pending: [{ unit: 'checkpoint-2', state: 'settling' }],
    })
  })

  test('the service copies what appears, without being asked', async () => {
    await using box = createSyncBox()
    box.sync.configure([box.plan({ every: '1h' })])
    box.serve()
    await until(() => box.sync.rows()[0]?.lastSuccessAt !== null)
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    await until(() => box.storedNames().length === 1)
    expect(box.sync.rows()[0]).toMatchObject({ name: 'checkpoints', problem: null })
  })

  test('S34: a folder used again is stored at its path, the old one is kept beside it', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-100/model.safetensors', safetensors('first run'))
    box.write('checkpoint-100/trainer_state.json', '{"global_step": 100}')
    box.sync.configure([box.plan()])
    await box.runNow()
    box.write('checkpoint-100/model.safetensors', safetensors('second run'))
    await box.runNow()
    const kept = box.storedNames().find((name) => /^checkpoint-100~[0-9a-f]{8}\/model/.test(name))!
    expect(readFileSync(join(box.remote, kept))).toEqual(safetensors('first run'))
    expect(readFileSync(join(box.remote, 'checkpoint-100/model.safetensors'))).toEqual(
      safetensors('second run'),
    )
    const record = JSON.parse(box.stored(`.gpu-agent/${kept.split('/')[0]!}.json`)) as {
      files: { path: string }[]
    }
    expect(record.files.map(({ path }) => path)).toContain(kept)
  })

  test('with versions: false the new one takes the place and nothing is kept', async () => {
    await using box = createSyncBox()
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([box.plan({ versions: false })])
    await box.runNow()
    box.write('model.safetensors', safetensors('b'))
    await box.runNow()
    expect(box.storedNames()).toEqual(['model.safetensors'])
    expect(readFileSync(join(box.remote, 'model.safetensors'))).toEqual(safetensors('b'))
  })

  test('files that join a folder are added, and nothing is kept twice', async () => {
    await using box = createSyncBox()
    box.write('videos/one.txt', 'one')
    box.sync.configure([box.plan()])
    await box.runNow()
    box.write('videos/two.txt', 'two')
    await box.runNow()
    expect(box.storedNames()).toEqual(['videos/one.txt', 'videos/two.txt'])
  })

  test('S28: an emptied folder leaves the remote alone and is reported', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    box.sync.configure([box.plan()])
    await box.runNow()
    rmSync(box.path, { recursive: true })
    const row = await box.runNow()
    expect(row.problem).toMatchObject({ severity: 'warning' })
    expect(row.problem?.message).toContain('is gone')
    expect(box.storedNames()).toEqual(['checkpoint-1/model.safetensors'])
  })

  test('what somebody removed from the remote is copied again', async () => {
    await using box = createSyncBox()
    box.write('checkpoint-1/model.safetensors', safetensors('a'))
    box.sync.configure([box.plan()])
    await box.runNow()
    rmSync(join(box.remote, 'checkpoint-1'), { recursive: true })
    await box.runNow()
    expect(box.storedNames()).toEqual(['checkpoint-1/model.safetensors'])
  })

  test('a copy that was cut off under its final name is replaced, not trusted', async () => {
    await using box = createSyncBox()
    box.write('model.safetensors', safetensors('a'))
    writeFileSync(join(box.remote, 'model.safetensors'), safetensors('a').subarray(0, 100))
    box.sync.configure([box.plan()])
    const row = await box.runNow()
    expect(row.problem).toBeNull()
    expect(readFileSync(join(box.remote, 'model.safetensors'))).toEqual(safetensors('a'))
  })
})
