import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { COMMIT } from '../../support/hub/hub-model.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

test('cases 21, 23 and 25: ETags of the content host that change from edge to edge are neither hash nor condition', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 12 * MB }] })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done', problem: null })
  const data = bench.hub.requests.filter((request) => request.at === 'cdn')
  expect(data.length).toBeGreaterThan(1)
  expect(data.map((request) => request.ifRange)).toEqual(data.map(() => null))
  expect(bench.hub.sentBytes('cdn')).toBe(12 * MB)
})

test('case 22: an address that is renewed in mid-file is asked for at the commit of the first answer', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: 12 * MB,
        faults: [{ at: 'cdn', times: 1, does: { kind: 'expire', afterRequests: 2 } }],
      },
    ],
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  const asked = bench.hub.requests.filter((request) => request.at === 'hub').map((request) => request.path)
  expect(asked).toEqual([`/${repo}/resolve/main/${path}`, `/${repo}/resolve/${COMMIT}/${path}`])
})

test('case 24: a weak ETag of the hub is the hash all the same', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB, weakEtag: true }] })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.downloads.rows()[0]?.sha256).toBe(bench.hub.file(path).content.sha256)
})

test('case 27: a host that says nothing but a length gives a file that is checked by size and content', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 3 * MB }] })
  const file = bench.planned(path, { from: [`${bench.hub.mirrorUrl}/${path}`] })
  expect(await bench.fetch(file)).toMatchObject({ state: 'done', problem: null })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  const wrong = { ...file, path: join(bench.modelsRoot, 'b.safetensors'), sizeBytes: 3 * MB + 1 }
  expect(await bench.fetch(wrong)).toMatchObject({ state: 'failed', problem: { code: 'size_mismatch' } })
})

test('case 55: a signed address is renewed before it expires', async () => {
  const slow = { at: 'cdn' as const, does: { kind: 'slow' as const, bytesPerSecond: MB } }
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 8 * MB, signedSeconds: 3, faults: [slow] }],
    limits: { segmentBytes: 2 ** 20, connectionsPerFile: 2 },
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.hub.requests.filter((request) => request.at === 'hub').length).toBeGreaterThan(1)
  expect(bench.hub.requests.filter((request) => request.status === 403)).toEqual([])
})

const record = (sizeBytes: number, sha256: string, end: number): string =>
  JSON.stringify({ version: 1, sizeBytes, sha256, identity: null, done: [[0, end]] })

test('case 3: bytes that a record claims and the disk lost fail the hash and are fetched again', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 5 * MB }] })
  const file = bench.planned(path)
  const { content } = bench.hub.file(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(`${file.path}.part`, Buffer.alloc(5 * MB))
  writeFileSync(`${file.path}.part.json`, record(5 * MB, content.sha256, 3 * MB))
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(content.sha256)
  expect(bench.left()).toEqual([path])
})

test('case 15: everything is there and the server has nothing beyond: the hash decides, nothing is asked for', async () => {
  const faults = [{ at: 'cdn' as const, does: { kind: 'answer' as const, status: 416 } }]
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 2 * MB, faults }] })
  const file = bench.planned(path)
  const { content } = bench.hub.file(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(`${file.path}.part`, content.read(0, content.sizeBytes))
  writeFileSync(`${file.path}.part.json`, record(2 * MB, content.sha256, 2 * MB))
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.hub.requests.filter((request) => request.at === 'cdn')).toEqual([])
})

test('T24 and case 16: a file that shrank at its source is started over once, without a loop', async () => {
  const shrunk = { kind: 'answer' as const, status: 416, headers: { 'content-range': 'bytes */1000' } }
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 6 * MB, faults: [{ at: 'cdn', after: 1, times: 1, does: shrunk }] }],
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  await using hopeless = await startBench({
    files: [{ repo, path, sizeBytes: 6 * MB, faults: [{ at: 'cdn', does: shrunk }] }],
  })
  const outcome = await hopeless.fetch(hopeless.planned(path))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'source_changed' } })
  expect(hopeless.hub.requests.filter((request) => request.at === 'cdn').length).toBeLessThan(20)
})

test('case 14: a part that is shorter than what was asked for is taken for what it says, and the rest is fetched', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: 5 * MB,
        faults: [{ at: 'mirror', after: 1, times: 2, does: { kind: 'short-range', bytes: 700_000 } }],
      },
    ],
  })
  const file = bench.planned(path, { from: [`${bench.hub.mirrorUrl}/${path}`] })
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
})
