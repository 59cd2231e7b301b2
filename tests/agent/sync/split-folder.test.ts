import { existsSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, openForWriting, safetensors } from './support/sync-box.ts'

const records = (box: SyncBox): string[] =>
  readdirSync(join(box.remote, '.gpu-agent'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .sort()

const names = async (box: SyncBox): Promise<string[]> =>
  (await box.sync.checkpoints(null)).map(({ name }) => name).sort()

test.each([
  [
    'checkpoints by name',
    ['run-1/checkpoint-100/model.safetensors', 'run-1/checkpoint-200/model.safetensors'],
  ],
  ['steps of DeepSpeed', ['run-1/global_step5/x.pt', 'run-1/global_step10/x.pt']],
  ['numbers in a folder of checkpoints', ['run-1/checkpoints/0005/a.txt', 'run-1/checkpoints/0010/a.txt']],
  ['folders with a marker', ['run-1/a/.metadata', 'run-1/b/_SUCCESS']],
  ['runs in a folder of runs', ['all/run-1/step_1/a.txt', 'all/run-2/step_1/a.txt']],
])('a folder with %s is as many units and the rest', async (_name, paths) => {
  await using box = createSyncBox()
  for (const path of paths) box.write(path, path.endsWith('.safetensors') ? safetensors(path) : path)
  const top = paths[0]!.split('/')[0]!
  box.write(`${top}/train.log`, 'a line')
  box.sync.configure([box.plan()])
  expect((await box.runNow()).pending).toEqual([])
  const units = paths.map((path) => path.slice(0, path.lastIndexOf('/')))
  expect(await names(box)).toEqual([...units, top].sort())
  expect(records(box)).toEqual([...units, top].map((unit) => `${unit}.json`).sort())
})

test('a run that is written to all the time holds none of its checkpoints back', async () => {
  await using box = createSyncBox()
  const log = box.write('run-1/train.log', 'a line')
  box.write('run-1/checkpoint-100/model.safetensors', safetensors('a'))
  const writer = await openForWriting(log)
  box.sync.configure([box.plan()])
  const row = await box.runNow()
  expect(row.pending).toMatchObject([{ unit: 'run-1', reason: 'train.log is open for writing' }])
  expect(box.storedNames()).toEqual(['run-1/checkpoint-100/model.safetensors'])
  expect((await box.sync.checkpointFiles({ sync: null, name: 'latest' })).name).toBe('run-1/checkpoint-100')
  writer.kill()
  await writer.ended
})

test('files of weights in a folder of checkpoints are units of their own', async () => {
  await using box = createSyncBox()
  box.write('version_0/checkpoints/epoch=1.ckpt', 'old pickle')
  box.write('version_0/checkpoints/last.safetensors', safetensors('a').subarray(0, 50))
  box.write('version_0/hparams.yaml', 'x: 1')
  box.sync.configure([box.plan()])
  expect((await box.runNow()).pending).toMatchObject([{ unit: 'version_0/checkpoints/last.safetensors' }])
  const found = await box.sync.checkpointFiles({ sync: null, name: 'version_0/checkpoints/epoch=1.ckpt' })
  expect(found).toMatchObject({ kind: 'file', files: [{ path: 'epoch=1.ckpt' }] })
  const { digest, name } = found
  const file = await box.sync.openCheckpointFile({ sync: null, name, digest, path: 'epoch=1.ckpt' })
  expect(await file.handle.readFile('utf8')).toBe('old pickle')
  await file.handle.close()
})

test('what a checkpoint holds is never split', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-5/global_step5/x.txt', 'x')
  box.write('checkpoint-5/latest', 'global_step5')
  box.write('set/done.txt', '')
  box.write('set/weights/part.safetensors', safetensors('a'))
  box.write('set/step-1/x.txt', 'x')
  box.sync.configure([box.plan({ complete_marker: 'done.txt' })])
  box.write('checkpoint-5/done.txt', '')
  await box.runNow()
  expect(await names(box)).toEqual(['checkpoint-5', 'set'])
})

test('a folder in which a checkpoint appears is split, and nothing is said to be lost', async () => {
  await using box = createSyncBox()
  box.write('run-1/model.safetensors', safetensors('a').subarray(0, 60))
  box.sync.configure([box.plan()])
  expect((await box.runNow()).pending).toMatchObject([{ unit: 'run-1' }])
  box.write('run-1/model.safetensors', safetensors('a'))
  box.write('run-1/checkpoint-1/model.safetensors', safetensors('b'))
  expect((await box.runNow()).problem).toBeNull()
  expect(records(box)).toEqual(['run-1.json', 'run-1/checkpoint-1.json'])
})

test('a nested checkpoint that is named again is kept beside, and a pruned one leaves its run alone', async () => {
  await using box = createSyncBox()
  const write = (step: number, seed: string): void => {
    const path = box.write(`run-1/checkpoint-${step}/model.safetensors`, safetensors(seed))
    utimesSync(path, new Date(2026, 0, 1, 0, step), new Date(2026, 0, 1, 0, step))
  }
  write(1, 'one')
  write(2, 'two')
  box.write('run-1/train.log', 'stays')
  box.sync.configure([box.plan()])
  await box.runNow()
  write(2, 'two again')
  box.sync.configure([box.plan({ keep_local: 1 })])
  expect((await box.runNow()).problem).toBeNull()
  expect(readdirSync(join(box.path, 'run-1')).sort()).toEqual(['checkpoint-2', 'train.log'])
  const kept = readdirSync(join(box.remote, 'run-1')).find((name) => name.startsWith('checkpoint-2~'))!
  expect(readFileSync(join(box.remote, 'run-1', kept, 'model.safetensors'))).toEqual(safetensors('two'))
})

test('keep_local leaves what is pointed to: a link, a pointer file, the best model', async () => {
  await using box = createSyncBox()
  for (const step of [1, 2, 3, 4, 5]) {
    const path = box.write(`checkpoint-${step}/model.safetensors`, safetensors(`${step}`))
    utimesSync(path, step, step)
  }
  symlinkSync('checkpoint-1', join(box.path, 'last'))
  writeFileSync(join(box.path, 'latest'), 'checkpoint-2')
  const state = { global_step: 5, best_model_checkpoint: '/elsewhere/checkpoint-3' }
  utimesSync(box.write('checkpoint-5/trainer_state.json', JSON.stringify(state)), 5, 5)
  box.sync.configure([box.plan({ keep_local: 1 })])
  expect((await box.runNow()).problem).toBeNull()
  expect([1, 2, 3, 4, 5].filter((step) => existsSync(join(box.path, `checkpoint-${step}`)))).toEqual([
    1, 2, 3, 5,
  ])
})
