import { execFileSync, spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Fault } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'
import type { ChildTask } from './child.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'
const steady: Fault[] = (['cdn', 'mirror'] as const).map((at) => ({
  at,
  does: { kind: 'slow', bytesPerSecond: 4 * MB },
}))

test('race takes ranges from two sources at once, each byte from one of them', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 24 * MB, faults: steady }] })
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from, race: true }))).toMatchObject({ state: 'done' })
  expect(bench.hub.sentBytes('cdn')).toBeGreaterThan(2 * MB)
  expect(bench.hub.sentBytes('mirror')).toBeGreaterThan(2 * MB)
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
})

test('race: a source that fails is left out and told, and wrong bytes of one are fetched again from the first', async () => {
  const gone: Fault = { at: 'mirror', after: 2, does: { kind: 'answer', status: 404 } }
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: 12 * MB, faults: [gone, ...steady] },
      {
        repo,
        path: 'b.safetensors',
        sizeBytes: 12 * MB,
        faults: [{ at: 'mirror', does: { kind: 'other-file' } }, ...steady],
      },
    ],
  })
  for (const name of [path, 'b.safetensors']) {
    const from = [`hf://${repo}@main/${name}`, `${bench.hub.mirrorUrl}/${name}`]
    expect(await bench.fetch(bench.planned(name, { from, race: true }))).toMatchObject({ state: 'done' })
    expect(bench.sha256(name)).toBe(bench.hub.file(name).content.sha256)
  }
  expect(bench.eventsOf('download.source-failed')[0]?.data).toMatchObject({ code: 'source_not_found' })
})

test('case 90: a mirror that leads to the content host of the primary is no second source', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 6 * MB }] })
  const again = { kind: 'answer' as const, status: 302, headers: { location: '' } }
  bench.hub.file(path).faults.push({ at: 'mirror', does: again })
  again.headers.location = `${bench.hub.cdnUrl}/data/${path}?Signature=mirror`
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from, race: true }))).toMatchObject({ state: 'done' })
  const data = bench.hub.requests.filter((request) => request.at === 'cdn' && request.range !== 'bytes=0-0')
  expect(data.filter((request) => request.path.includes('Signature=mirror'))).toEqual([])
})

const CHILD = join(import.meta.dirname, 'child.ts')

test('case 83: a second agent waits for the first one’s file instead of writing into it', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 8 * MB, faults: steady }] })
  const file = bench.planned(path)
  const { endpoints, allowHosts } = bench.resolve
  const state = join(bench.folder, 'other-agent')
  mkdirSync(state)
  const task: ChildTask = { state, file, policy: { endpoints, allowHosts } }
  const other = spawn(process.execPath, [CHILD, JSON.stringify(task)], { stdio: 'ignore' })
  const ended = new Promise((resolve) => other.once('exit', resolve))
  while (bench.hub.sentBytes('cdn') === 0) await delay(20)
  const running = bench.fetch(file)
  while (bench.downloads.rows()[0]?.state !== 'waiting') await delay(10)
  expect(bench.downloads.rows()[0]?.problem).toMatchObject({ code: 'busy', severity: 'warning' })
  expect(await running).toMatchObject({ state: 'done', problem: null })
  expect(await ended).toBe(0)
  expect(bench.hub.sentBytes('cdn')).toBe(8 * MB)
  expect(bench.left()).toEqual([path])
})

test.each([
  { name: 'a process that is gone', pid: 2 ** 22 - 3, started: '1' },
  { name: 'a process id that is somebody else’s by now', pid: process.pid, started: '1' },
])('case 84: the claim of $name is cleared', async ({ pid, started }) => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const boot = execFileSync('cat', ['/proc/sys/kernel/random/boot_id'], { encoding: 'utf8' }).trim()
  const namespace = execFileSync('readlink', ['/proc/self/ns/pid'], { encoding: 'utf8' }).trim()
  mkdirSync(bench.modelsRoot, { recursive: true })
  const claim = { pid, started, where: `${boot} ${namespace}` }
  writeFileSync(join(bench.modelsRoot, `${path}.part.claim`), JSON.stringify(claim))
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.left()).toEqual([path])
})

test('case 35: a partial file is continued although the token in the address is another one', async () => {
  const modest: Fault = { at: 'mirror', times: 6, does: { kind: 'slow', bytesPerSecond: 2 * MB } }
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 12 * MB, faults: [modest] }] })
  const from = (token: string) => [`${bench.hub.mirrorUrl}/${path}?token=${token}`]
  const abort = new AbortController()
  const first = bench.downloads.fetchAll([bench.planned(path, { from: from('one') })], {
    signal: abort.signal,
  })
  while (bench.hub.sentBytes('mirror') < 4 * MB) await delay(20)
  abort.abort(new Error('enough'))
  await first.catch(() => undefined)
  expect(await bench.fetch(bench.planned(path, { from: from('two') }))).toMatchObject({ state: 'done' })
  expect(Number(bench.eventsOf('download.resumed')[0]?.data?.['resumedBytes'])).toBeGreaterThan(MB)
  expect(JSON.stringify([bench.events, bench.downloads.rows()])).not.toMatch(/token=/)
})

test('case 75: a name that would be too long is refused before anything is asked', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const long = { ...bench.planned(path), path: join(bench.modelsRoot, `${'x'.repeat(250)}.gguf`) }
  expect(await bench.fetch(long)).toMatchObject({ problem: { code: 'destination_invalid' } })
  expect(bench.hub.requests).toEqual([])
})

test('case 81: while it comes, a file lies beside its destination, on the same device', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 8 * MB, faults: steady }] })
  const running = bench.fetch(bench.planned(path))
  while (bench.hub.sentBytes('cdn') < MB) await delay(10)
  expect(readdirSync(bench.modelsRoot)).toContain(`${path}.part`)
  const { dev } = lstatSync(join(bench.modelsRoot, `${path}.part`))
  await running
  expect(lstatSync(join(bench.modelsRoot, path)).dev).toBe(dev)
})

const canMount = (() => {
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' })
    return process.getuid?.() === 0
  } catch {
    return false
  }
})()
test.skipIf(!canMount)(
  `case 80: a file system that cannot be written is told at once, and no source is asked again${canMount ? '' : ' (skipped: this user may not mount)'}`,
  async () => {
    await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
    const disk = join(bench.folder, 'read-only')
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', disk])
    try {
      const file = bench.planned(path, {
        path: join(disk, path),
        root: disk,
        from: [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`],
      })
      expect(await bench.fetch(file)).toMatchObject({ state: 'failed', problem: { code: 'read_only' } })
      expect(bench.hub.sentBytes('cdn') + bench.hub.sentBytes('mirror')).toBe(0)
    } finally {
      execFileSync('umount', [disk])
    }
  },
)

test('two destinations of one source are one transfer: the second is copied, and checked like any other', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 12 * MB, faults: steady }] })
  const { sha256 } = bench.hub.file(path).content
  const places = ['x/a.safetensors', 'y/a.safetensors']
  const files = places.map((place) =>
    bench.planned(path, { to: place, path: join(bench.modelsRoot, place), sha256 }),
  )
  const { signal } = new AbortController()
  const outcomes = await bench.downloads.fetchAll(files, { signal })
  expect(outcomes).toMatchObject([{ state: 'done' }, { state: 'done' }])
  expect(places.map(bench.sha256)).toEqual([sha256, sha256])
  expect(bench.hub.sentBytes('cdn')).toBe(12 * MB)
  expect(bench.eventsOf('download.started').map(({ data }) => data?.['copiedFrom'])).toEqual([
    undefined,
    join(bench.modelsRoot, 'x/a.safetensors'),
  ])
})

test('a twin that rotted unseen is found out by its copy, marked, and the file is fetched', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 3 * MB }] })
  await bench.fetch(bench.planned(path))
  const twin = join(bench.modelsRoot, path)
  // Verified again with a time that can be set to the nanosecond.
  const at = new Date('2026-01-01')
  utimesSync(twin, at, at)
  await bench.fetch(bench.planned(path))
  const bytes = readFileSync(twin)
  bytes[2 * MB] = (bytes[2 * MB] ?? 0) ^ 1
  writeFileSync(twin, bytes)
  utimesSync(twin, at, at)
  const second = bench.planned(path, { to: 'b', path: join(bench.modelsRoot, 'b.safetensors') })
  const { signal } = new AbortController()
  const outcomes = await bench.downloads.fetchAll([bench.planned(path), second], { signal })
  expect(outcomes).toMatchObject([{ state: 'done' }, { state: 'done', problem: null }])
  expect(bench.sha256('b.safetensors')).toBe(bench.hub.file(path).content.sha256)
  expect(bench.eventsOf('download.damaged')).toMatchObject([{ subject: twin }])
  expect(bench.left()).toEqual([path, 'b.safetensors'])
})

test('who waits for a destination is not ended by the one before giving up', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 12 * MB, faults: steady }] })
  const first = new AbortController()
  const given = bench.downloads.fetchOne(bench.planned(path), { signal: first.signal })
  const { signal } = new AbortController()
  const second = bench.downloads.fetchOne(bench.planned(path), { signal })
  setTimeout(() => first.abort(new Error('the first gave up')), 300)
  await expect(given).rejects.toThrow('the first gave up')
  expect(await second).toMatchObject({ state: 'done' })
})
