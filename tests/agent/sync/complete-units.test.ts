import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createSyncBox, laterClock, openForWriting, safetensors, until } from './support/sync-box.ts'

const INDEX = JSON.stringify({
  weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' },
})

test('S10, S15: a cut-off safetensors file holds its checkpoint back until it is whole', async () => {
  await using box = createSyncBox()
  const whole = safetensors('a')
  box.write('checkpoint-1/model.safetensors', whole.subarray(0, 1000))
  box.sync.configure([box.plan()])
  expect(await box.runNow()).toMatchObject({ pendingFiles: 1, problem: null })
  expect(box.storedNames()).toEqual([])
  box.write('checkpoint-1/model.safetensors', whole)
  expect(await box.runNow()).toMatchObject({ pendingFiles: 0 })
  expect(box.storedNames()).toEqual(['checkpoint-1/model.safetensors'])
})

/** A stored zip with one empty member: local header, central directory, end record. */
const zip = (): Buffer => {
  const local = Buffer.alloc(31)
  local.writeUInt32BE(0x504b0304)
  local.writeUInt16LE(1, 26)
  const central = Buffer.alloc(47)
  central.writeUInt32BE(0x504b0102)
  central.writeUInt16LE(1, 28)
  const end = Buffer.alloc(22)
  end.writeUInt32BE(0x504b0506)
  end.writeUInt16LE(1, 10)
  end.writeUInt32LE(central.length, 12)
  end.writeUInt32LE(local.length, 16)
  return Buffer.concat([local, central, end])
}
const box4 = (type: string, data: Buffer): Buffer => {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(8 + data.length)
  head.write(type, 4, 'latin1')
  return Buffer.concat([head, data])
}
const mp4 = (): Buffer =>
  Buffer.concat([
    box4('ftyp', Buffer.alloc(8)),
    box4('mdat', Buffer.alloc(500)),
    box4('moov', Buffer.alloc(90)),
  ])
const gguf = (): Buffer => Buffer.concat([Buffer.from('GGUF'), Buffer.alloc(40)])

test.each([
  ['model.pt', zip()],
  ['model.ckpt', zip()],
  ['clip.mp4', mp4()],
  ['model.gguf', gguf()],
  ['model.safetensors', safetensors('a')],
])('S15: %s is copied whole and at no earlier length', async (name, whole) => {
  await using box = createSyncBox()
  box.sync.configure([box.plan()])
  const lengths = [1, 7, 21, 30, whole.length - 1].filter((length) => name !== 'model.gguf' || length < 24)
  for (const length of lengths) {
    box.write(name, whole.subarray(0, length))
    await box.runNow()
    expect(box.storedNames(), `${length} bytes`).toEqual([])
  }
  box.write(name, whole)
  await box.runNow()
  expect(box.storedNames()).toEqual([name])
})

test('S14: a checkpoint whose index lists a shard that is not there waits, and the shard is named in time', async () => {
  let laterMs = 0
  await using box = createSyncBox({ clock: laterClock(() => laterMs) })
  box.write('checkpoint-1/model.safetensors.index.json', INDEX)
  box.write('checkpoint-1/model-00001-of-00002.safetensors', safetensors('1'))
  box.sync.configure([box.plan()])
  await box.runNow()
  expect(box.storedNames()).toEqual([])
  laterMs = 20 * 60_000
  expect((await box.runNow()).problem?.message).toContain('model-00002-of-00002.safetensors')
  box.write('checkpoint-1/model-00002-of-00002.safetensors', safetensors('2'))
  expect((await box.runNow()).problem).toBeNull()
  expect(box.storedNames()).toHaveLength(3)
})

test('complete_marker: a folder waits for it', async () => {
  await using box = createSyncBox()
  box.write('step-1/weights.txt', 'w')
  box.sync.configure([box.plan({ complete_marker: 'done.txt' })])
  await box.runNow()
  expect(box.storedNames()).toEqual([])
  box.write('step-1/done.txt', '')
  await box.runNow()
  expect(box.storedNames()).toEqual(['step-1/done.txt', 'step-1/weights.txt'])
})

test('a torn trainer_state.json holds its checkpoint back', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-5/model.safetensors', safetensors('a'))
  box.write('checkpoint-5/trainer_state.json', '{"global_st')
  box.sync.configure([box.plan()])
  await box.runNow()
  expect(box.storedNames()).toEqual([])
  box.write('checkpoint-5/trainer_state.json', '{"global_step": 5, "loss": NaN}')
  await box.runNow()
  expect(box.storedNames()).toHaveLength(2)
})

test('complete_marker: a trainer_state.json of another trainer counts as it is, whatever it tells', async () => {
  await using box = createSyncBox()
  box.sync.configure([box.plan({ complete_marker: 'trainer_state.json' })])
  for (const [name, text] of [
    ['step-1', '{}'],
    ['step-2', '{"step": 2}'],
    ['step-3', '{"global_step": 7}'],
  ] as const) {
    box.write(`${name}/weights.txt`, 'w')
    box.write(`${name}/trainer_state.json`, text)
    await box.runNow()
    expect(box.storedNames(), text).toContain(`${name}/weights.txt`)
  }
})

test('S8, S11: a save that is going on at the start is copied when it ended, without an event for it', async () => {
  await using box = createSyncBox()
  const path = box.write('checkpoint-1/data.txt', 'first half')
  const writer = await openForWriting(path)
  box.sync.configure([box.plan()])
  await box.runNow()
  expect(box.storedNames()).toEqual([])
  writer.kill()
  await writer.ended
  await box.runNow()
  expect(box.storedNames()).toEqual(['checkpoint-1/data.txt'])
})

test('names of unfinished files are never copied, and hold their folder back', async () => {
  await using box = createSyncBox()
  for (const name of ['a.tmp', 'b.part', 'c.incomplete', 'tmp-checkpoint-7/x.txt', 'checkpoint-8/y.txt.tmp'])
    box.write(name, 'x')
  box.write('checkpoint-8/z.txt', 'z')
  box.sync.configure([box.plan()])
  await box.runNow()
  expect(box.storedNames()).toEqual([])
  rmSync(join(box.path, 'checkpoint-8/y.txt.tmp'))
  await box.runNow()
  expect(box.storedNames()).toEqual(['checkpoint-8/z.txt'])
})

test('a file is not taken before it rested for the settle time', async () => {
  let laterMs = 0
  await using box = createSyncBox({ clock: laterClock(() => laterMs) })
  box.write('notes.txt', 'x')
  box.sync.configure([box.plan({ settle: '30m', every: '1s' })])
  box.serve()
  await until(() => box.events.length === 0 && box.sync.rows()[0]?.pendingFiles === 1)
  laterMs += 20 * 60_000
  box.write('notes.txt', 'x and more')
  await until(() => box.sync.rows()[0]?.pendingBytes === 10)
  laterMs += 20 * 60_000
  const seen = box.sync.rows()[0]?.lastSuccessAt
  await until(() => box.sync.rows()[0]?.lastSuccessAt !== seen)
  expect(box.storedNames()).toEqual([])
  laterMs += 20 * 60_000
  await until(() => box.storedNames().length === 1)
})

test('S16: what a pointer file names counts only when it reads the same twice', async () => {
  await using box = createSyncBox()
  box.write('global_step5/weights.txt', 'w')
  box.write('latest', 'global_')
  box.sync.configure([box.plan()])
  await box.runNow()
  box.write('latest', 'global_step5')
  const row = await box.runNow()
  expect(row.problem).toBeNull()
  expect(box.stored('latest')).toBe('global_step5')
  const newest = await box.sync.checkpointFiles({ sync: null, name: 'latest' })
  expect(newest.name).toBe('global_step5')
})

test('S31: times in the future and a wall clock that jumps do not matter', async () => {
  const jumps = [0, 3_600_000, -3_600_000, 0]
  let at = 0
  await using box = createSyncBox({
    clock: { ...laterClock(() => 0), now: () => new Date(Date.now() + jumps[(at += 1) % jumps.length]!) },
  })
  const path = box.write('model.safetensors', safetensors('a'))
  utimesSync(path, new Date('2040-01-01'), new Date('2040-01-01'))
  box.sync.configure([box.plan()])
  expect((await box.runNow()).problem).toBeNull()
  expect(box.storedNames()).toEqual(['model.safetensors'])
  expect(box.sync.isLate('checkpoints')).toBe(false)
})

test('S35: symbolic links are not followed, whether they loop or lead out', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-1/model.txt', 'm')
  writeFileSync(join(box.home, 'secret.txt'), 'secret')
  symlinkSync('checkpoint-1', join(box.path, 'last'))
  symlinkSync('.', join(box.path, 'checkpoint-1/loop'))
  symlinkSync(join(box.home, 'secret.txt'), join(box.path, 'checkpoint-1/stolen.txt'))
  symlinkSync(join(box.home, 'secret.txt'), join(box.path, 'stolen.txt'))
  box.sync.configure([box.plan()])
  expect((await box.runNow()).problem).toBeNull()
  expect(box.storedNames()).toEqual(['checkpoint-1/model.txt'])
})

test.each([
  ['a line end', Buffer.from('bad\nname.txt')],
  ['a backslash', Buffer.from('bad\\name.txt')],
  ['bytes that are not UTF-8', Buffer.from([0x62, 0xff, 0x2e, 0x74, 0x78, 0x74])],
])('S36: a name with %s is refused aloud, and the others are copied', async (_name, bytes) => {
  await using box = createSyncBox()
  mkdirSync(join(box.path, 'checkpoint-1'))
  writeFileSync(Buffer.concat([Buffer.from(join(box.path, 'checkpoint-1/')), bytes]), 'x')
  box.write('checkpoint-2/a b \u00e9\u{1f600} .txt', 'fine')
  box.sync.configure([box.plan()])
  const row = await box.runNow()
  expect(row.problem).toMatchObject({ code: 'unsafe_path', severity: 'error' })
  expect(box.storedNames()).toEqual(['checkpoint-2/a b \u00e9\u{1f600} .txt'])
})

test('S5: a checkpoint that is removed before it was copied is reported as lost', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-1/model.safetensors', safetensors('a').subarray(0, 99))
  box.sync.configure([box.plan()])
  await box.runNow()
  rmSync(join(box.path, 'checkpoint-1'), { recursive: true })
  expect((await box.runNow()).problem?.message).toContain('checkpoint-1 was removed before')
  expect(box.storedNames()).toEqual([])
})
