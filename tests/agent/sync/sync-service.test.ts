import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import type { SyncRow } from '../../../shared/contract/records.ts'
import { createSyncBox, laterClock, safetensors, until } from './support/sync-box.ts'

test('incident B9: a sync that does not succeed for three times its interval is late, and is not when it does again', async () => {
  let laterMs = 0
  await using box = createSyncBox({ clock: laterClock(() => laterMs) })
  rmSync(box.remote, { recursive: true })
  writeFileSync(box.remote, 'a file where the remote should be')
  box.write('model.safetensors', safetensors('a'))
  box.sync.configure([box.plan({ every: '2m' })])
  await box.runNow()
  expect(box.sync.isLate('checkpoints')).toBe(false)
  laterMs = 7 * 60_000
  expect(box.sync.isLate('checkpoints')).toBe(true)
  rmSync(box.remote)
  mkdirSync(box.remote)
  expect((await box.runNow()).problem).toBeNull()
  expect(box.sync.isLate('checkpoints')).toBe(false)
})

test('incident B9: a sync that is late and fails is late after a restart of the agent too', async () => {
  let laterMs = 0
  const clock = { ...laterClock(() => laterMs), now: () => new Date(Date.now() + laterMs) }
  await using box = createSyncBox({ clock })
  box.write('model.safetensors', safetensors('a'))
  box.sync.configure([box.plan({ every: '2m' })])
  expect((await box.runNow()).problem).toBeNull()
  rmSync(box.remote, { recursive: true })
  writeFileSync(box.remote, 'a file where the remote should be')
  laterMs = 7 * 60_000
  await box.runNow()
  box.restart()
  box.sync.configure([box.plan({ every: '2m' })])
  expect(box.sync.isLate('checkpoints')).toBe(true)
})

test('configure keeps what is unchanged and ends what is gone', async () => {
  await using box = createSyncBox()
  const other = box.plan({ name: 'other', path: join(box.home, 'other'), to: join(box.home, 'other-remote') })
  box.sync.configure([box.plan(), other])
  box.serve()
  await until(() => box.sync.rows().every(({ state }) => state === 'idle'))
  box.sync.configure([box.plan()])
  expect(box.sync.rows()).toMatchObject([{ name: 'checkpoints', state: 'idle' }])
  await expect(box.runNow('other')).rejects.toMatchObject({ code: 'not_found' })
})

test('a folder that appears after the start is found, and watched', async () => {
  await using box = createSyncBox()
  rmSync(box.path, { recursive: true })
  box.sync.configure([box.plan({ every: '1s' })])
  box.serve()
  await until(() => box.sync.rows()[0]?.lastSuccessAt !== null)
  box.write('model.safetensors', safetensors('a'))
  await until(() => box.storedNames().length === 1)
})

test('S37: very many files are compared without a watch for each', async () => {
  await using box = createSyncBox()
  for (let folder = 0; folder < 20; folder += 1) {
    mkdirSync(join(box.path, `set-${folder}`))
    for (let file = 0; file < 500; file += 1)
      writeFileSync(join(box.path, `set-${folder}`, `${file}.txt`), 'x')
  }
  const before = inotifyWatches()
  box.sync.configure([box.plan({ settle: '1h', every: '4h' })])
  box.serve()
  await until(() => box.sync.rows()[0]?.pendingFiles === 10_000)
  await until(() => inotifyWatches() > before)
  expect(inotifyWatches() - before).toBeLessThan(40)
}, 120_000)

const mayMount = (): boolean => {
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test.skipIf(!mayMount())(
  `S29: a full destination is sync_quota, and nothing counts as stored${mayMount() ? '' : ' (skipped: unshare may not be used here)'}`,
  async () => {
    await using box = createSyncBox()
    box.write('model.safetensors', safetensors('a', 3_000_000))
    const last = await lastRow(
      ['unshare', '-m', 'sh', '-c', `mount -t tmpfs -o size=1m tmpfs ${box.remote} && exec "$@"`, 'sh'],
      box,
      (row) => row.problem !== null,
    )
    expect(last).toMatchObject({ problem: { code: 'sync_quota' }, state: 'failing', pendingFiles: 1 })
  },
)

const mayLimitWatches = (): boolean => {
  try {
    execFileSync('unshare', ['-Ur', 'sh', '-c', 'echo 5 >/proc/sys/user/max_inotify_watches'], {
      stdio: 'ignore',
    })
    return true
  } catch {
    return false
  }
}

test.skipIf(!mayLimitWatches())(
  `S9: without inotify watches it says so and goes on${mayLimitWatches() ? '' : ' (skipped: user namespaces are off here)'}`,
  async () => {
    await using box = createSyncBox()
    for (let folder = 0; folder < 20; folder += 1) box.write(`set-${folder}/x.txt`, 'x')
    const last = await lastRow(
      ['unshare', '-Ur', 'sh', '-c', 'echo 5 >/proc/sys/user/max_inotify_watches && exec "$@"', 'sh'],
      box,
      (row) => row.problem?.code === 'io_error' && row.pendingFiles === 0 && row.lastSuccessAt !== null,
    )
    expect(last.problem?.message).toContain('not watched')
    expect(box.storedNames()).toHaveLength(20)
  },
)

/** Runs the sync room as a program behind `wrapper` until a row holds. */
const lastRow = async (
  wrapper: readonly string[],
  box: ReturnType<typeof createSyncBox>,
  holds: (row: SyncRow) => boolean,
): Promise<SyncRow> => {
  const home = join(box.home, 'agent')
  mkdirSync(home)
  const program = [process.execPath, join(import.meta.dirname, 'support/sync-agent.ts')]
  const [first, ...rest] = [...wrapper, ...program, home, box.temporaryFolder, JSON.stringify(box.plan())]
  const child = spawn(first, rest, { stdio: ['ignore', 'pipe', 'ignore'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const row = JSON.parse(line) as SyncRow
      if (holds(row)) return row
    }
    throw new Error('the program ended before its row was as expected')
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

const inotifyWatches = (): number =>
  readdirSync('/proc/self/fd')
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).includes('inotify')
      } catch {
        return false
      }
    })
    .map((fd) => readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').split('inotify wd:').length - 1)
    .reduce((sum, count) => sum + count, 0)
