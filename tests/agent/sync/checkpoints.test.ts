import { readFileSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createSyncBox, safetensors, sha256 } from './support/sync-box.ts'

const createRunBox = async () => {
  const box = createSyncBox()
  for (const [step, time] of [
    [100, '2026-01-01'],
    [200, '2026-01-02'],
  ] as const) {
    for (const path of [
      box.write(`checkpoint-${step}/model.safetensors`, safetensors(`step ${step}`)),
      box.write(`checkpoint-${step}/sub/config.json`, `{"step": ${step}}`),
    ])
      utimesSync(path, new Date(time), new Date(time))
  }
  box.write('train.log', 'newer than both')
  box.sync.configure([box.plan()])
  await box.runNow()
  return box
}
const latest = { sync: null, name: 'latest' }

test('what could be pulled is listed newest first, with digest and what the remote has', async () => {
  await using box = await createRunBox()
  const rows = await box.sync.checkpoints(null)
  expect(rows.map(({ name }) => name)).toEqual(['train.log', 'checkpoint-200', 'checkpoint-100'])
  expect(rows[1]).toMatchObject({
    sync: 'checkpoints',
    files: 2,
    sizeBytes: safetensors('step 200').length + 13,
    completeAt: '2026-01-02T00:00:00.000Z',
    remoteState: 'stored',
  })
  expect(rows[1]?.digest).toMatch(/^[0-9a-f]{64}$/)
})

test('latest is the newest checkpoint, not the log beside it; its files have their hashes', async () => {
  await using box = await createRunBox()
  const found = await box.sync.checkpointFiles(latest)
  // Its copy lies on the box, so there is nowhere else to pull it from.
  expect(found).toMatchObject({ name: 'checkpoint-200', sync: 'checkpoints', remote: null })
  expect(found.files).toEqual([
    {
      path: 'model.safetensors',
      sizeBytes: safetensors('step 200').length,
      sha256: sha256(safetensors('step 200')),
    },
    { path: 'sub/config.json', sizeBytes: 13, sha256: sha256('{"step": 200}') },
  ])
})

test('a checkpoint that is not complete is not there', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-1/model.safetensors', safetensors('a').subarray(0, 1000))
  box.sync.configure([box.plan()])
  await box.runNow()
  await expect(box.sync.checkpointFiles(latest)).rejects.toMatchObject({ code: 'not_found' })
  await expect(box.sync.checkpointFiles({ sync: null, name: 'checkpoint-1' })).rejects.toMatchObject({
    code: 'not_found',
  })
  await expect(box.sync.checkpoints('nothing')).rejects.toMatchObject({ code: 'not_found' })
})

test('a file of a checkpoint opens with its size and a strong tag', async () => {
  await using box = await createRunBox()
  const { name, digest } = await box.sync.checkpointFiles(latest)
  const file = await box.sync.openCheckpointFile({ sync: null, name, digest, path: 'sub/config.json' })
  try {
    expect(await file.handle.readFile('utf8')).toBe('{"step": 200}')
    expect(file.sizeBytes).toBe(13)
    expect(file.etag).toBe(`"sha256-${sha256('{"step": 200}')}"`)
  } finally {
    await file.handle.close()
  }
})

test('S48: the tag and the digest are the same after a restart of the agent, at once', async () => {
  await using box = await createRunBox()
  const { name, digest } = await box.sync.checkpointFiles(latest)
  box.restart()
  box.sync.configure([box.plan({ settle: '1h', every: '4h' })])
  const file = await box.sync.openCheckpointFile({ sync: null, name, digest, path: 'model.safetensors' })
  await file.handle.close()
  expect(file.etag).toBe(`"sha256-${sha256(safetensors('step 200'))}"`)
})

test('S47: a checkpoint that changed since it was listed is refused, whichever file is asked for', async () => {
  await using box = await createRunBox()
  const { name, digest } = await box.sync.checkpointFiles(latest)
  const ask = { sync: null, name, digest, path: 'model.safetensors' }
  writeFileSync(join(box.path, name, 'model.safetensors'), safetensors('other'))
  await box.runNow()
  await expect(box.sync.openCheckpointFile(ask)).rejects.toMatchObject({ code: 'checkpoint_changed' })
  await box.sync.checkpointFiles(latest)
  await expect(box.sync.openCheckpointFile({ ...ask, path: 'sub/config.json' })).rejects.toMatchObject({
    code: 'checkpoint_changed',
  })
})

test.each(['../checkpoint-100/model.safetensors', '/etc/passwd', 'sub/../model.safetensors', '', 'sub'])(
  'S50: the path %j opens nothing',
  async (path) => {
    await using box = await createRunBox()
    const { name, digest } = await box.sync.checkpointFiles(latest)
    await expect(box.sync.openCheckpointFile({ sync: null, name, digest, path })).rejects.toMatchObject({
      code: 'not_found',
    })
  },
)

test('a file whose place a symbolic link took, or whose folder one took, is not opened', async () => {
  await using box = await createRunBox()
  const { name, digest } = await box.sync.checkpointFiles(latest)
  const outside = join(box.home, 'outside')
  renameSync(join(box.path, name, 'sub'), outside)
  symlinkSync(outside, join(box.path, name, 'sub'))
  expect(readFileSync(join(box.path, name, 'sub/config.json'), 'utf8')).toBe('{"step": 200}')
  await expect(
    box.sync.openCheckpointFile({ sync: null, name, digest, path: 'sub/config.json' }),
  ).rejects.toMatchObject({ code: 'unsafe_path' })
  rmSync(join(box.path, name, 'model.safetensors'))
  symlinkSync('/etc/passwd', join(box.path, name, 'model.safetensors'))
  await expect(
    box.sync.openCheckpointFile({ sync: null, name, digest, path: 'model.safetensors' }),
  ).rejects.toThrow()
})
