import { expect, test } from 'vitest'
import type { Fault, FaultAction } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

const bench = (does: FaultAction, count: Omit<Fault, 'at' | 'does'> = {}) =>
  startBench({
    files: [{ repo, path, sizeBytes: 12 * MB, faults: [{ at: 'cdn', ...count, does }] }],
    timeouts: { bodyMs: 1_000 },
  })

test.each<{ name: string; does: FaultAction; count?: Omit<Fault, 'at' | 'does'> }>([
  { name: 'T24 and case 6: a server that ignores every range', does: { kind: 'ignore-range' } },
  { name: 'case 6: a range ignored in mid-file', does: { kind: 'ignore-range' }, count: { after: 2 } },
  {
    name: 'case 7: one edge that ignores one range',
    does: { kind: 'ignore-range' },
    count: { after: 2, times: 1 },
  },
  { name: 'case 8: a shifted range', does: { kind: 'shift-range', byBytes: 100 }, count: { times: 3 } },
  { name: 'case 9: ranges that end sooner than asked', does: { kind: 'short-range', bytes: 700_000 } },
  { name: 'case 10: bodies longer than their range', does: { kind: 'overlong', byBytes: 100_000 } },
  { name: 'case 12: ranges of an unknown total', does: { kind: 'unknown-total' } },
  {
    name: 'case 62: chunked bodies without their end',
    does: { kind: 'torn-chunks', afterBytes: 1_500_000 },
    count: { times: 3 },
  },
  {
    name: 'case 13: a partial answer without Content-Range',
    does: { kind: 'no-content-range' },
    count: { times: 2 },
  },
  {
    name: 'case 11: another total size, once',
    does: { kind: 'other-total', sizeBytes: 5 },
    count: { times: 1 },
  },
  {
    name: 'case 56: headers, some bytes, then silence',
    does: { kind: 'stall', afterBytes: 200_000 },
    count: { times: 2 },
  },
  {
    name: 'T24 and case 61: bodies that end early',
    does: { kind: 'drop', afterBytes: 1_000_000 },
    count: { times: 4 },
  },
  { name: 'case 64: an encoded body', does: { kind: 'encode', encoding: 'gzip' }, count: { times: 2 } },
  {
    name: 'case 51: a 503',
    does: { kind: 'answer', status: 503, headers: { 'retry-after': '0' } },
    count: { times: 3 },
  },
  { name: 'case 51: a 408', does: { kind: 'answer', status: 408 }, count: { times: 2 } },
])('$name does no harm', async ({ does, count }) => {
  await using one = await bench(does, count)
  expect(await one.fetch(one.planned(path))).toMatchObject({ state: 'done', problem: null })
  expect(one.sha256(path)).toBe(one.hub.file(path).content.sha256)
  expect(one.left()).toEqual([path])
})

test.each([404, 410])('case 51: a %i of the content host is final', async (status) => {
  await using one = await bench({ kind: 'answer', status })
  const outcome = await one.fetch(one.planned(path))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'source_not_found' } })
  expect(one.hub.requests.filter((request) => request.at === 'cdn')).toHaveLength(1)
})

test('case 20: every request for bytes carries a range', async () => {
  await using one = await startBench({ files: [{ repo, path, sizeBytes: 5 * MB }] })
  await one.fetch(one.planned(path))
  const data = one.hub.requests.filter((request) => request.at === 'cdn')
  expect(data.length).toBeGreaterThan(1)
  expect(data.every((request) => /^bytes=\d+-\d+$/.test(request.range ?? ''))).toBe(true)
})

test('case 26: the size is the linked one, not that of the redirect', async () => {
  await using one = await startBench({ files: [{ repo, path, sizeBytes: 5 * MB }] })
  await one.fetch(one.planned(path))
  expect(one.downloads.rows()[0]?.bytesTotal).toBe(5 * MB)
})

test('case 52: a signed address that expires in mid-file is renewed and the transfer goes on where it was', async () => {
  await using one = await bench({ kind: 'expire', afterRequests: 3 })
  expect(await one.fetch(one.planned(path))).toMatchObject({ state: 'done' })
  expect(one.sha256(path)).toBe(one.hub.file(path).content.sha256)
  expect(one.hub.sentBytes('cdn')).toBe(12 * MB)
  expect(one.downloads.rows()[0]?.retries).toBe(0)
})

test('case 53: connections that meet the expiry together share one new resolve', async () => {
  await using one = await bench({ kind: 'expire', afterRequests: 4 }, { times: 1 })
  expect(await one.fetch(one.planned(path))).toMatchObject({ state: 'done' })
  expect(one.hub.requests.filter((request) => request.status === 403).length).toBeGreaterThan(1)
  expect(one.hub.requests.filter((request) => request.at === 'hub')).toHaveLength(2)
})

test('case 54: a fresh address that is refused as well ends it', async () => {
  await using one = await bench({ kind: 'answer', status: 403 })
  const outcome = await one.fetch(one.planned(path))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'source_refused' } })
  expect(one.hub.requests.filter((request) => request.at === 'hub')).toHaveLength(2)
})
