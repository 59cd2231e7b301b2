import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { findProgram } from '../../../agent/platform/commands.ts'
import { planSnapshot } from '../../../shared/sources/plan-snapshot.ts'
import { COMMIT, type HubFile, STRANGER_TOKEN } from '../../support/hub/hub-model.ts'
import { type BenchOptions, startBench } from './bench.ts'

const repo = 'owner/repo'
const FILES: readonly HubFile[] = [
  { repo, path: 'general/a.safetensors', sizeBytes: 3_000_000 },
  { repo, path: 'general/deep/b.safetensors', sizeBytes: 1_000_000 },
  { repo, path: 'config.json', text: '{"a":1}', small: true },
  { repo, path: 'general/tokenizer.json', text: '{"b":2}', small: true },
  { repo, path: 'other/c.safetensors', sizeBytes: 1_000_000 },
  { repo, path: 'old.bin', sizeBytes: 1000 },
]
const wanted = { snapshot: `hf://${repo}@main`, include: ['general/**', '*.json'], exclude: ['*/deep/*'] }
const signal = new AbortController().signal

const start = async (options: Partial<BenchOptions> = {}) => {
  const bench = await startBench({ files: FILES, ...options })
  const hfHome = join(bench.folder, 'hf')
  const folder = join(hfHome, 'hub', 'models--owner--repo')
  const plan = async (request = wanted) => ({
    snapshot: await planSnapshot(request, { ...bench.resolve, signal }),
    hfHome,
    optional: false,
    allowPickle: false,
  })
  return Object.assign(bench, { hfHome, cache: folder, plan })
}

test('a snapshot is listed page by page, filtered, and pinned to its commit', async () => {
  await using bench = await start()
  const { snapshot } = await bench.plan()
  expect(snapshot).toMatchObject({
    to: `hf://${repo}@${COMMIT}`,
    revision: 'main',
    commit: COMMIT,
    pickles: [],
  })
  expect(snapshot.files.map((file) => file.path).toSorted()).toEqual([
    'config.json',
    'general/a.safetensors',
    'general/tokenizer.json',
  ])
  expect(snapshot.sizeBytes).toBe(3_000_000 + 14)
  const all = await bench.plan({ ...wanted, include: [], exclude: [] })
  expect(all.snapshot.files).toHaveLength(FILES.length)
  expect(all.snapshot.pickles).toEqual(['old.bin'])
})

test('a mirror that does not know every question of the hub gives the same snapshot', async () => {
  await using bench = await start({ unknownQuestions: ['revision', 'auth-check'] })
  expect((await bench.plan()).snapshot).toMatchObject({ to: `hf://${repo}@${COMMIT}`, commit: COMMIT })
  await expect(bench.plan({ ...wanted, snapshot: `hf://${repo}@v1` })).rejects.toMatchObject({
    code: 'revision_not_found',
  })
})

test('a mirror that cannot tell who may read is not believed: a file of the repository is asked', async () => {
  await using bench = await start({
    files: FILES.map((file) => ({ ...file, gated: true })),
    hfToken: STRANGER_TOKEN,
    unknownQuestions: ['auth-check'],
  })
  await expect(bench.plan()).rejects.toMatchObject({ code: 'gated' })
})

test('case 44: a gated repository is refused before a byte of it is fetched', async () => {
  await using bench = await start({
    files: FILES.map((file, index) => ({ ...file, gated: index === 4 })),
    hfToken: STRANGER_TOKEN,
  })
  await expect(bench.plan()).rejects.toMatchObject({ code: 'gated' })
  await expect(bench.plan({ ...wanted, snapshot: 'hf://owner/nothing' })).rejects.toMatchObject({
    code: 'repository_not_found',
  })
  expect(bench.hub.sentBytes('cdn')).toBe(0)
})

test('a snapshot is laid out as Hugging Face’s own cache, as one row, and costs nothing a second time', async () => {
  await using bench = await start()
  const planned = await bench.plan()
  expect(await bench.downloads.isSnapshotProven(planned)).toBe(false)
  const outcomes = await bench.downloads.fetchSnapshots([planned], { signal })
  expect(outcomes).toEqual([{ to: planned.snapshot.to, state: 'done', problem: null, optional: false }])
  for (const path of ['general/a.safetensors', 'general/tokenizer.json', 'config.json']) {
    const link = join(bench.cache, 'snapshots', COMMIT, path)
    const { content } = bench.hub.file(path)
    expect(readFileSync(link).equals(content.read(0, content.sizeBytes)), path).toBe(true)
    const up = path.includes('/') ? '../../../' : '../../'
    expect(readlinkSync(link)).toMatch(new RegExp(`^${up}blobs/[0-9a-f]{40,64}$`))
  }
  expect(readFileSync(join(bench.cache, 'refs', 'main'), 'utf8')).toBe(COMMIT)
  expect(
    lstatSync(join(bench.cache, 'snapshots', COMMIT, 'other'), { throwIfNoEntry: false }),
  ).toBeUndefined()
  expect(bench.downloads.rows()).toMatchObject([
    { to: planned.snapshot.to, state: 'done', bytesDone: 3_000_014, bytesTotal: 3_000_014 },
  ])
  expect(bench.events.map((event) => event.type)).toEqual(['download.started', 'download.done'])

  const asked = bench.hub.requests.length
  const fresh = bench.makeDownloads()
  expect(await fresh.isSnapshotProven(planned)).toBe(true)
  expect(await fresh.fetchSnapshots([planned], { signal })).toMatchObject([{ state: 'done' }])
  expect(bench.hub.requests.length).toBe(asked)
})

test('pickles in a snapshot are refused unless they are allowed', async () => {
  await using bench = await start()
  const planned = await bench.plan({ ...wanted, include: ['old.bin', '*.json'], exclude: [] })
  const [refused] = await bench.downloads.fetchSnapshots([planned], { signal })
  expect(refused).toMatchObject({ state: 'failed', problem: { code: 'pickle_refused' } })
  const allowed = { ...planned, allowPickle: true }
  expect(await bench.downloads.fetchSnapshots([allowed], { signal })).toMatchObject([{ state: 'done' }])
})

const flock = findProgram('flock', process.env['PATH'] ?? '')
test.skipIf(flock === undefined)(
  `a blob that another program has locked is waited for${flock ? '' : ' (skipped: there is no flock program)'}`,
  async () => {
    await using bench = await start()
    const planned = await bench.plan({ ...wanted, include: ['other/*'], exclude: [] })
    const sha256 = planned.snapshot.files[0]?.sha256 ?? ''
    const locks = join(bench.hfHome, 'hub', '.locks', 'models--owner--repo')
    mkdirSync(locks, { recursive: true })
    const ready = join(bench.folder, 'ready')
    const script = `touch ${ready}; exec sleep 60`
    const holder = spawn(flock!, [join(locks, `${sha256}.lock`), 'sh', '-c', script], { detached: true })
    try {
      while (lstatSync(ready, { throwIfNoEntry: false }) === undefined) await delay(20)
      const running = bench.downloads.fetchSnapshots([planned], { signal })
      while (bench.downloads.rows()[0]?.state !== 'waiting') await delay(20)
      expect(bench.downloads.rows()[0]?.problem).toMatchObject({ code: 'busy' })
      expect(bench.hub.sentBytes('cdn')).toBe(0)
      // The whole group: the sleeping program has the lock open too.
      process.kill(-holder.pid!, 'SIGKILL')
      expect(await running).toMatchObject([{ state: 'done' }])
    } finally {
      holder.kill('SIGKILL')
      rmSync(ready, { force: true })
    }
  },
)

test('a blob that another tool left in the cache is checked and kept', async () => {
  await using bench = await start()
  const planned = await bench.plan({ ...wanted, include: ['other/*'], exclude: [] })
  const { content } = bench.hub.file('other/c.safetensors')
  mkdirSync(join(bench.cache, 'blobs'), { recursive: true })
  writeFileSync(join(bench.cache, 'blobs', content.sha256), content.read(0, content.sizeBytes))
  expect(await bench.downloads.fetchSnapshots([planned], { signal })).toMatchObject([{ state: 'done' }])
  expect(bench.hub.sentBytes('cdn')).toBe(0)
})
