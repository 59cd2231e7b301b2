import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { createPace } from '../../../agent/downloads/pace.ts'
import type { Fault } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'
const quick = { tickMs: 50, windowMs: 400, crawlMs: 1_500 }

const slow = (bytesPerSecond: number, count: Omit<Fault, 'at' | 'does'> = {}): Fault => ({
  at: 'cdn',
  ...count,
  does: { kind: 'slow', bytesPerSecond },
})

test('case 57: a drip is given up although bytes arrive, and the range comes over another connection', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 3 * MB, faults: [slow(10, { times: 1 })] }],
    limits: { slow: quick },
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.downloads.rows()[0]?.retries).toBeGreaterThan(0)
})

test('case 58: one connection at a small part of the others’ speed is given up, and the others fetch its range', async () => {
  // The second request crawls; all others are fast enough to be compared with.
  const faults = [slow(0.2 * MB, { after: 1, times: 1 }), slow(8 * MB)]
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 80 * MB, faults }],
    limits: { slow: quick },
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  const [crawling] = bench.hub.requests.filter((request) => request.at === 'cdn').slice(1)
  const [start, end] =
    /(\d+)-(\d+)/
      .exec(crawling?.range ?? '')
      ?.slice(1)
      .map(Number) ?? []
  expect(crawling?.sentBytes).toBeLessThan((end! - start!) / 2)
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
})

test('case 59: where every connection is slow, none is given up', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 6 * MB, faults: [slow(0.5 * MB)] }],
    limits: { slow: { ...quick, crawlMs: 20_000 } },
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.downloads.rows()[0]?.retries).toBe(0)
})

test('case 50: one 503 on one range costs no connection for the rest of the file', async () => {
  const does = { kind: 'answer' as const, status: 503, headers: { 'retry-after': '0' } }
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: 20 * MB, faults: [{ at: 'cdn', after: 2, times: 1, does }, slow(4 * MB)] },
    ],
  })
  let most = 0
  const running = bench.fetch(bench.planned(path))
  const watch = setInterval(() => {
    const refused = bench.hub.requests.some((request) => request.status === 503)
    if (refused) most = Math.max(most, bench.downloads.rows()[0]?.connections ?? 0)
  }, 20)
  expect(await running).toMatchObject({ state: 'done' })
  clearInterval(watch)
  expect(most).toBeGreaterThanOrEqual(4)
})

test('case 60: a mirror takes over from a host that accepts connections and never speaks', async () => {
  const silent = createServer(() => undefined)
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  try {
    await using bench = await startBench({
      files: [{ repo, path, sizeBytes: MB, mirrorPublishes: true }],
      timeouts: { connectMs: 300, headersMs: 300 },
      extraHosts: [`127.0.0.1:${port}`],
    })
    const from = [`https://127.0.0.1:${port}/${path}`, `${bench.hub.mirrorUrl}/${path}`]
    const { sha256 } = bench.hub.file(path).content
    expect(await bench.fetch(bench.planned(path, { from, sha256 }))).toMatchObject({ state: 'done' })
    expect(bench.eventsOf('download.source-failed')[0]?.data).toMatchObject({ code: 'source_unavailable' })
  } finally {
    silent.close()
  }
})

test('case 60: a name that does not exist is given up for the mirror', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const { sha256 } = bench.hub.file(path).content
  const from = [`https://no-such-host.invalid/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from, sha256 }))).toMatchObject({ state: 'done' })
})

test('the number of connections follows what they bring together: up while it helps, down on a refusal', () => {
  let now = 0
  const pace = createPace(() => now)
  let open = 0
  const run = (seconds: number, bytesPerSecond: (connections: number) => number): void => {
    for (const end = now + seconds * 1000; now < end; now += 50) {
      while (pace.mayOpen()) {
        pace.opened()
        open += 1
      }
      for (; pace.isOverfull(); open -= 1) pace.closed()
      pace.add(bytesPerSecond(open) / 20)
    }
  }
  // A host that gives each connection 10 MB/s, and 120 MB/s in all.
  run(5, (connections) => Math.min(120, connections * 10) * MB)
  expect(pace.target()).toBe(16)
  pace.overloaded(429)
  expect(pace.target()).toBe(8)
  // The same host afterwards: the plateau is found again by small steps.
  run(60, (connections) => Math.min(120, connections * 10) * MB)
  expect(pace.target()).toBeGreaterThanOrEqual(12)
  expect(pace.target()).toBeLessThanOrEqual(16)
  // Everything collapses.
  run(10, () => MB)
  expect(pace.target()).toBeLessThan(12)
})
