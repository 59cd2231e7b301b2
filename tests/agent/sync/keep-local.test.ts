import { existsSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, openForWriting, safetensors } from './support/sync-box.ts'

const writeSteps = (box: SyncBox, steps: readonly number[]): void => {
  for (const step of steps) {
    const path = box.write(`checkpoint-${step}/model.safetensors`, safetensors(`${step}`))
    utimesSync(path, new Date(2026, 0, 1, 0, step), new Date(2026, 0, 1, 0, step))
  }
}
const folders = (box: SyncBox): string[] => readdirSync(box.path).sort()

test('keep_local removes the oldest checkpoints here, and nothing on the remote', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2, 3, 4])
  box.write('train.log', 'stays')
  box.sync.configure([box.plan({ keep_local: 2 })])
  expect((await box.runNow()).problem).toBeNull()
  expect(folders(box)).toEqual(['checkpoint-3', 'checkpoint-4', 'train.log'])
  expect(box.storedNames()).toHaveLength(5)
  expect((await box.runNow()).problem).toBeNull()
  expect(box.storedNames()).toHaveLength(5)
})

test('what was not copied stays, also in a folder that is pruned', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2])
  box.write('checkpoint-1/optimizer.pt', 'chosen by nobody')
  box.sync.configure([box.plan({ keep_local: 1, include: ['**/*.safetensors'] })])
  await box.runNow()
  expect(readdirSync(join(box.path, 'checkpoint-1'))).toEqual(['optimizer.pt'])
})

test('S43: when the remote does not show the copies, nothing is removed here', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2, 3])
  box.sync.configure([box.plan()])
  await box.runNow()
  box.restart()
  rmSync(box.remote, { recursive: true })
  writeFileSync(box.remote, 'a file where the remote was')
  box.sync.configure([box.plan({ keep_local: 1 })])
  const row = await box.runNow()
  expect(row.consecutiveFailures).toBe(1)
  expect(folders(box)).toEqual(['checkpoint-1', 'checkpoint-2', 'checkpoint-3'])
})

test('S44: what is being pulled or is open for writing is not removed', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2, 3])
  box.sync.configure([box.plan()])
  await box.runNow()
  box.sync.configure([box.plan({ keep_local: 1 })])
  const reader = await openForWriting(join(box.path, 'checkpoint-1/model.safetensors'))
  await box.runNow()
  expect(folders(box)).toContain('checkpoint-1')
  reader.kill()
  await reader.ended
  await box.sync.checkpointFiles({ sync: null, name: 'checkpoint-1' })
  await box.runNow()
  expect(existsSync(join(box.path, 'checkpoint-1/model.safetensors'))).toBe(true)
})

test('a copy that was damaged on the remote, at the same size, lets nothing go here, and is made again', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2])
  box.sync.configure([box.plan()])
  await box.runNow()
  const copy = join(box.remote, 'checkpoint-1/model.safetensors')
  const whole = readFileSync(copy)
  writeFileSync(copy, Buffer.alloc(whole.byteLength, 'x'))
  box.sync.configure([box.plan({ keep_local: 1 })])
  await box.runNow()
  expect(folders(box)).toContain('checkpoint-1')
  await box.runNow()
  expect(readFileSync(copy).equals(whole)).toBe(true)
  // What lay there was no older version of it: it is kept, and no record says that it is one.
  const records = readdirSync(join(box.remote, '.gpu-agent')).filter((name) => name.endsWith('.json'))
  expect(records.sort()).toEqual(['checkpoint-1.json', 'checkpoint-2.json'])
  await box.runNow()
  expect(folders(box)).toEqual(['checkpoint-2'])
})

test('a save that was cut off is no reason to let the last complete checkpoint go', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1])
  box.sync.configure([box.plan({ keep_local: 1 })])
  await box.runNow()
  box.write('checkpoint-2/model.safetensors', safetensors('2').subarray(0, -1))
  await box.runNow()
  expect(folders(box)).toEqual(['checkpoint-1', 'checkpoint-2'])
})

test('a checkpoint that was just written is not removed for the times of its files', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2])
  box.sync.configure([box.plan({ keep_local: 1 })])
  await box.runNow()
  writeSteps(box, [3])
  utimesSync(join(box.path, 'checkpoint-3/model.safetensors'), 1e9, 1e9)
  await box.runNow()
  expect(folders(box)).toEqual(['checkpoint-2', 'checkpoint-3'])
})

test('folders that are no checkpoints are never removed, and are not the latest', async () => {
  await using box = createSyncBox()
  writeSteps(box, [1, 2])
  box.write('base_model/config.json', '{}')
  box.write('dataset/a.txt', 'a')
  for (const path of ['base_model/config.json', 'dataset/a.txt'])
    utimesSync(join(box.path, path), new Date(2025, 0, 1), new Date(2025, 0, 1))
  box.sync.configure([box.plan({ keep_local: 1 })])
  await box.runNow()
  expect(folders(box)).toEqual(['base_model', 'checkpoint-2', 'dataset'])
  box.write('logs/today.txt', 'newer than every checkpoint')
  await box.runNow()
  expect((await box.sync.checkpointFiles({ sync: null, name: 'latest' })).name).toBe('checkpoint-2')
})

test('two syncs with one destination: what the one replaced of the other is not let go here', async () => {
  await using one = createSyncBox()
  await using other = createSyncBox()
  writeSteps(one, [1, 2])
  one.sync.configure([one.plan()])
  await one.runNow()
  other.write('checkpoint-1/model.safetensors', safetensors('x'))
  other.sync.configure([{ ...other.plan(), to: one.remote }])
  expect((await other.runNow()).problem).toBeNull()
  one.sync.configure([one.plan({ keep_local: 1 })])
  expect((await one.runNow()).problem?.code).toBe('sync_config')
  expect(folders(one)).toEqual(['checkpoint-1', 'checkpoint-2'])
})
