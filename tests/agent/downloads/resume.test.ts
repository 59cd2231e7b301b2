import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Fault } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

test('a file arrives whole, verified, under its name and with nothing beside it', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 20 * MB }] })
  const outcome = await bench.fetch(bench.planned(path))
  expect(outcome).toMatchObject({ state: 'done', problem: null })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  expect(bench.left()).toEqual([path])
  expect(bench.hub.sentBytes('cdn')).toBe(20 * MB)
  expect(bench.hub.requests.filter((one) => one.at === 'hub')).toHaveLength(1)
  expect(bench.downloads.rows()).toMatchObject([{ to: path, state: 'done', bytesDone: 20 * MB }])
})

test('case 1: after a reset only the rest of the range is asked for again', async () => {
  const faults: Fault[] = [{ at: 'cdn', times: 2, after: 1, does: { kind: 'drop', afterBytes: 500_000 } }]
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 20 * MB, faults }] })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  expect(bench.hub.sentBytes('cdn')).toBeLessThanOrEqual(20 * MB + 2 * 64 * 2 ** 10)
  expect(bench.downloads.rows()[0]?.retries).toBe(2)
})

test('case 2: after SIGKILL in mid-transfer the next process fetches the holes alone', async () => {
  const size = 64 * MB
  const faults: Fault[] = [{ at: 'cdn', does: { kind: 'slow', bytesPerSecond: 6 * MB } }]
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: size, faults }] })
  const file = bench.planned(path)
  const policy = { endpoints: bench.resolve.endpoints, allowHosts: bench.resolve.allowHosts }
  const task = JSON.stringify({ state: mkdtempSync(join(bench.folder, 'child-')), file, policy })
  const run = () =>
    spawn(process.execPath, [join(import.meta.dirname, 'child.ts'), task], { stdio: 'inherit' })

  const first = run()
  while (recordedBytes(file.path) < 0.1 * size) await delay(20)
  first.kill('SIGKILL')
  await once(first, 'exit')
  expect(bench.exists(path), 'case 87: the name is not visible before the file is verified').toBe(false)

  const recorded = recordedBytes(file.path)
  expect(recorded).toBeLessThan(size)
  const before = bench.hub.requests.length
  bench.hub.file(path).faults.length = 0
  const second = run()
  const [status] = (await once(second, 'exit')) as [number]

  expect(status).toBe(0)
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  const data = bench.hub.requests.slice(before).filter((request) => request.at === 'cdn')
  const sent = data.reduce((sum, request) => sum + request.sentBytes, 0)
  expect(sent).toBeGreaterThanOrEqual(size - recorded)
  // On a busy machine connections may take over from each other at the end.
  expect(sent).toBeLessThan(size - recorded + 8 * MB)
  expect(bench.left()).toEqual([path])
})

/** What the record of a partial file names; 0 while there is none. */
const recordedBytes = (path: string): number => {
  try {
    const record = JSON.parse(readFileSync(`${path}.part.json`, 'utf8')) as { done: [number, number][] }
    return record.done.reduce((sum, [start, end]) => sum + end - start, 0)
  } catch {
    return 0
  }
}

test.each([
  { what: 'torn', text: '{"version":1,"sizeBytes":50' },
  { what: 'of another version', text: '{"version":7,"done":[[0,1000]]}' },
  { what: 'no JSON at all', text: '\u0000\u0000\u0000' },
])('case 4: a record that is $what is discarded and nothing is trusted', async ({ text }) => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 3 * MB }] })
  const file = bench.planned(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(`${file.path}.part`, Buffer.alloc(3 * MB))
  writeFileSync(`${file.path}.part.json`, text)
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  expect(bench.hub.sentBytes('cdn')).toBe(3 * MB)
})

test('case 5: a partial file of another version is discarded, and how much and why is told', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 3 * MB }] })
  const file = bench.planned(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(`${file.path}.part`, Buffer.alloc(3 * MB))
  const record = {
    version: 1,
    sizeBytes: 3 * MB,
    sha256: '0'.repeat(64),
    identity: null,
    done: [[0, 2 * MB]],
  }
  writeFileSync(`${file.path}.part.json`, JSON.stringify(record))
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
  expect(bench.eventsOf('download.started')[0]?.data).toMatchObject({
    discardedBytes: 2 * MB,
    discarded: 'it is of a file with another sha256',
  })
})

test('case 17: a complete partial file costs no request for bytes', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 3 * MB }] })
  const file = bench.planned(path)
  const { content } = bench.hub.file(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(`${file.path}.part`, content.read(0, content.sizeBytes))
  const record = {
    version: 1,
    sizeBytes: 3 * MB,
    sha256: content.sha256,
    identity: null,
    done: [[0, 3 * MB]],
  }
  writeFileSync(`${file.path}.part.json`, JSON.stringify(record))
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(bench.hub.requests.filter((one) => one.at === 'cdn')).toEqual([])
  expect(bench.left()).toEqual([path])
})

test('case 18: an empty file is made without asking for a range of it', async () => {
  await using bench = await startBench({ files: [{ repo, path: 'empty.txt', text: '' }] })
  expect(await bench.fetch(bench.planned('empty.txt'))).toMatchObject({ state: 'done' })
  expect(bench.exists('empty.txt')).toBe(true)
  expect(bench.hub.requests.filter((one) => one.at === 'cdn')).toEqual([])
})

test.each([1, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 2 ** 21 + 1])(
  'case 19: a file of %i bytes arrives like any other',
  async (sizeBytes) => {
    await using bench = await startBench({ files: [{ repo, path: 'a.dat', sizeBytes }] })
    expect(await bench.fetch(bench.planned('a.dat'))).toMatchObject({ state: 'done' })
    expect(bench.sha256('a.dat')).toBe(bench.hub.file('a.dat').content.sha256)
    expect(bench.hub.requests.filter((one) => one.status === 416)).toEqual([])
  },
)
