import { execFileSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createSyncBox, openForWriting, safetensors, sha256, until } from './support/sync-box.ts'

const hasPython = (): boolean => {
  try {
    execFileSync('python3', ['-c', 'import mmap'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test.skipIf(!hasPython())(
  'S12: a file that is written through a mapping, without an event, is copied again',
  async () => {
    await using box = createSyncBox()
    const path = box.write('weights.npy', 'a'.repeat(10_000))
    box.sync.configure([box.plan()])
    await box.runNow()
    const program = `import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[5000:5003] = b'new'
    m.flush()`
    execFileSync('python3', ['-c', program, path])
    expect((await box.runNow()).problem).toBeNull()
    expect(box.stored('weights.npy').slice(4999, 5004)).toBe('anewa')
  },
)

test('S13: a file with room taken beforehand is held back while it is open, and a marker while it is not there', async () => {
  await using box = createSyncBox()
  const whole = safetensors('a', 100_000)
  const path = box.write('checkpoint-1/model.safetensors', whole.subarray(0, 50_000))
  truncateSync(path, whole.length)
  const writer = await openForWriting(path)
  box.sync.configure([
    box.plan({ complete_marker: 'done.txt' }),
    box.plan({ name: 'unmarked', to: join(box.home, 'other') }),
  ])
  await box.runNow()
  const reasons = () => box.sync.rows().map(({ pending }) => pending[0]?.reason)
  expect(reasons()).toEqual(['done.txt is missing', 'model.safetensors is open for writing'])
  writer.kill()
  await writer.ended
  await box.runNow('checkpoints')
  expect(reasons()[0]).toBe('done.txt is missing')
  expect(box.storedNames()).toEqual([])
})

test('S30: with a full disk under the agent’s state nothing is begun, the trouble is told, and it goes on after it', async () => {
  await using box = createSyncBox()
  box.write('first.txt', 'x')
  box.sync.configure([box.plan()])
  await box.runNow()
  box.fillState(true)
  for (let file = 0; file < 400; file += 1) box.write(`set/${file}-${'x'.repeat(100)}.txt`, `${file}`)
  const full = await box.runNow()
  expect(full).toMatchObject({ consecutiveFailures: 1, problem: { code: 'disk_full' } })
  expect(box.storedNames()).toEqual(['first.txt'])
  box.fillState(false)
  expect(await box.runNow()).toMatchObject({ problem: null, pendingFiles: 0 })
  expect(box.storedNames()).toHaveLength(401)
})

test('S40: a box whose copies another one replaces at the same place stops, and says so', async () => {
  await using one = createSyncBox()
  await using other = createSyncBox()
  one.write('checkpoint-1/data.txt', 'of the first box')
  other.write('checkpoint-1/data.txt', 'of another box')
  one.sync.configure([one.plan()])
  other.sync.configure([{ ...other.plan(), to: one.remote }])
  await one.runNow()
  expect((await other.runNow()).problem).toBeNull()
  const row = await one.runNow()
  expect(row).toMatchObject({ consecutiveFailures: 1, problem: { code: 'sync_config' } })
  expect(row.problem?.message).toContain('checkpoint-1')
  expect(one.stored('checkpoint-1/data.txt')).toBe('of another box')
  const kept = one.storedNames().find((name) => /^checkpoint-1~[0-9a-f]{8}\/data\.txt$/.test(name))
  expect(one.stored(kept ?? '')).toBe('of the first box')
})

test('S40: also where the other box’s files have the very same sizes', async () => {
  await using one = createSyncBox()
  await using other = createSyncBox()
  one.write('checkpoint-1/data.txt', 'of box A')
  other.write('checkpoint-1/data.txt', 'of box B')
  one.sync.configure([one.plan()])
  other.sync.configure([{ ...other.plan(), to: one.remote }])
  await one.runNow()
  await other.runNow()
  expect(await one.runNow()).toMatchObject({ consecutiveFailures: 1, problem: { code: 'sync_config' } })
})

test('S56: after random churn every unit is on the remote as it is here', async () => {
  await using box = createSyncBox()
  box.sync.configure([box.plan({ every: '1s' })])
  box.serve()
  const files = Array.from({ length: 12 }, (_, number) => `checkpoint-${number % 4}/part-${number}.txt`)
  for (let move = 0; move < 150; move += 1) {
    const name = files[randomInt(files.length)] ?? ''
    const path = join(box.path, name)
    const kind = randomInt(10)
    if (kind < 6) box.write(name, randomBytes(randomInt(1, 3000)))
    else if (kind < 8) rmSync(path, { force: true })
    else if (existsSync(path)) {
      writeFileSync(`${path}.tmp`, randomBytes(200))
      renameSync(`${path}.tmp`, path)
    }
    if (move % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 30))
  }
  for (const name of files) box.write(name, `the last of ${name}`)
  await until(() => box.sync.rows()[0]?.pendingFiles === 0 && box.sync.rows()[0]?.state === 'idle')
  await box.runNow()
  for (const name of files) {
    expect(sha256(box.stored(name)), name).toBe(sha256(readFileSync(join(box.path, name))))
    const record = join(box.remote, '.gpu-agent', `${name.split('/')[0] ?? ''}.json`)
    const { files: listed } = JSON.parse(readFileSync(record, 'utf8')) as { files: { sha256: string }[] }
    expect(listed.map((file) => file.sha256)).toContain(sha256(box.stored(name)))
  }
})
