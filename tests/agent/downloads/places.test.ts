import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { AgentError } from '../../../shared/contract/errors.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

test('case 74: a proven file costs one look, also for an agent that was started anew', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const file = bench.planned(path)
  expect(await bench.downloads.proven(file)).toBeUndefined()
  await bench.fetch(file)
  const asked = bench.hub.requests.length
  const fresh = bench.makeDownloads()
  expect(await fresh.proven(file)).toBeDefined()
  expect(await bench.fetch(file, fresh)).toMatchObject({ state: 'done' })
  expect(bench.hub.requests.length).toBe(asked)
  writeFileSync(file.path, 'changed')
  expect(await fresh.proven(file)).toBeUndefined()
})

test('case 74: a right file that was there already is hashed and kept, without a byte fetched', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const { content } = bench.hub.file(path)
  const file = bench.planned(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(file.path, content.read(0, content.sizeBytes))
  const inode = statSync(file.path).ino
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  expect(statSync(file.path).ino).toBe(inode)
  expect(bench.hub.sentBytes('cdn')).toBe(0)
  expect(await bench.downloads.proven(file)).toBeDefined()
})

test('T35 and case 74: a folder or a symbolic link at the destination is refused', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const file = bench.planned(path)
  mkdirSync(file.path, { recursive: true })
  expect(await bench.fetch(file)).toMatchObject({ problem: { code: 'destination_invalid' } })
  symlinkSync('/etc', join(bench.modelsRoot, 'link'))
  const linked = bench.planned(path, { path: join(bench.modelsRoot, 'link', 'a.safetensors') })
  expect(await bench.fetch(linked)).toMatchObject({ problem: { code: 'unsafe_path' } })
  writeFileSync(join(bench.modelsRoot, 'target'), 'mine')
  symlinkSync('target', join(bench.modelsRoot, 'b.safetensors'))
  const direct = bench.planned(path, { path: join(bench.modelsRoot, 'b.safetensors'), root: null })
  expect(await bench.fetch(direct)).toMatchObject({ problem: { code: 'unsafe_path' } })
  expect(readFileSync(join(bench.modelsRoot, 'target'), 'utf8')).toBe('mine')
})

test('case 82: one destination that is asked for twice is fetched once', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 5 * MB }] })
  const outcomes = await Promise.all([1, 2].map(() => bench.fetch(bench.planned(path))))
  expect(outcomes.map((outcome) => outcome.state)).toEqual(['done', 'done'])
  expect(bench.hub.sentBytes('cdn')).toBe(5 * MB)
})

test('case 85: a cancelled transfer lets go of everything, writes nothing later, and can be continued', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: 20 * MB,
        faults: [{ at: 'cdn', times: 4, does: { kind: 'slow', bytesPerSecond: 3 * MB } }],
      },
    ],
  })
  const file = bench.planned(path)
  const abort = new AbortController()
  const running = bench.downloads.fetchAll([file], { signal: abort.signal })
  while (bench.hub.sentBytes('cdn') < 6 * MB) await delay(20)
  const reason = new AgentError('cancelled', 'the run was cancelled')
  abort.abort(reason)
  await expect(running).rejects.toBe(reason)
  const part = statSync(`${file.path}.part`)
  await delay(200)
  expect(statSync(`${file.path}.part`).mtimeMs).toBe(part.mtimeMs)
  expect(bench.exists(path)).toBe(false)

  const before = bench.hub.requests.length
  expect(await bench.fetch(file)).toMatchObject({ state: 'done' })
  const again = bench.hub.requests.slice(before).filter((request) => request.at === 'cdn')
  expect(again.reduce((sum, request) => sum + request.sentBytes, 0)).toBeLessThan(16 * MB)
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
})

test('case 86: a file that is there survives a failed attempt to replace it', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: MB, faults: [{ at: 'cdn', does: { kind: 'corrupt' } }] }],
  })
  const file = bench.planned(path)
  mkdirSync(bench.modelsRoot, { recursive: true })
  writeFileSync(file.path, 'the old one')
  expect(await bench.fetch(file)).toMatchObject({ state: 'failed' })
  expect(readFileSync(file.path, 'utf8')).toBe('the old one')
})

test('one file that fails stops no other, and required files go first', async () => {
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: MB },
      { repo, path: 'b.safetensors', sizeBytes: MB },
    ],
    limits: { files: 1 },
  })
  const files = [
    bench.planned(path, { optional: true, sizeBytes: 2 * MB }),
    bench.planned('b.safetensors', { sizeBytes: MB }),
  ]
  const outcomes = await bench.downloads.fetchAll(files, { signal: new AbortController().signal })
  expect(outcomes).toMatchObject([
    { to: path, state: 'failed', problem: { code: 'size_mismatch', severity: 'warning' } },
    { to: 'b.safetensors', state: 'done' },
  ])
  expect(bench.events.map((event) => event.subject)[0]).toBe('b.safetensors')
})
