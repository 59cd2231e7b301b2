import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pullModel, type PullRequest } from '../../../agent/apply/pull-model.ts'
import { planSnapshot } from '../../../shared/sources/plan-snapshot.ts'
import { resolveSource } from '../../../shared/sources/resolve-source.ts'
import type { HubFile } from '../../support/hub/hub-model.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const FILES: readonly HubFile[] = [
  { repo, path: 'a.safetensors', sizeBytes: 3 * MB },
  { repo, path: 'b.safetensors', sizeBytes: 2 * MB },
  { repo, path: 'old.ckpt', sizeBytes: 1000 },
  { repo, path: 'config.json', text: '{"a":1}', small: true },
]
const signal = new AbortController().signal

const start = async () => {
  const bench = await startBench({ files: FILES })
  const pull = (
    request: Partial<PullRequest> & { source: string },
    modelsRoot: string | null = bench.modelsRoot,
  ) =>
    pullModel(
      { to: null, allowPickle: false, ...request },
      {
        downloads: bench.downloads,
        resolve: (reference, asked) => resolveSource(reference, { ...bench.resolve, signal: asked }),
        modelsRoot,
        signal,
      },
    )
  return Object.assign(bench, { pull })
}

const damage = (path: string): void => {
  const bytes = readFileSync(path)
  bytes[bytes.length - 7]! ^= 1
  writeFileSync(path, bytes)
}

test('a pull brings one file under models_root by its own name, is listed, and costs nothing a second time', async () => {
  await using bench = await start()
  const source = `hf://${repo}@main/a.safetensors`
  const { model, problems } = await bench.pull({ source })
  expect(problems).toEqual([])
  const path = join(bench.modelsRoot, 'a.safetensors')
  expect(model).toMatchObject({ path, source, sizeBytes: 3 * MB, state: 'done' })
  expect(bench.sha256('a.safetensors')).toBe(model.sha256)
  expect(await bench.pull({ source })).toMatchObject({ model: { verifiedAt: model.verifiedAt } })
  expect(bench.hub.sentBytes('cdn')).toBe(3 * MB)
  // An agent that was started anew knows it by its place.
  expect(await bench.makeDownloads().models()).toMatchObject([
    { path, source, sha256: model.sha256, state: 'done' },
  ])
})

test('a pull goes where --to says: a name, a folder, or an absolute path', async () => {
  await using bench = await start()
  const source = `hf://${repo}@main/b.safetensors`
  const absolute = join(bench.folder, 'elsewhere', 'mine.safetensors')
  const inFolder = { model: { path: join(bench.modelsRoot, 'loras', 'b.safetensors') } }
  expect(await bench.pull({ source, to: 'loras/' })).toMatchObject(inFolder)
  expect(await bench.pull({ source, to: 'loras' })).toMatchObject(inFolder)
  expect(await bench.pull({ source, to: absolute }, null)).toMatchObject({ model: { path: absolute } })
  expect(existsSync(absolute)).toBe(true)
})

test.each([
  {
    what: 'no models_root is known',
    request: { source: `hf://${repo}@main/a.safetensors` },
    modelsRoot: null,
    code: 'destination_invalid',
  },
  {
    what: '--to leads out',
    request: { source: `hf://${repo}@main/a.safetensors`, to: '../x' },
    code: 'unsafe_path',
  },
  { what: 'it is a pickle', request: { source: `hf://${repo}@main/old.ckpt` }, code: 'pickle_refused' },
  { what: 'it is no source', request: { source: 'a.safetensors' }, code: 'bad_request' },
  {
    what: 'there is no such file',
    request: { source: `hf://${repo}@main/none.gguf` },
    code: 'source_not_found',
  },
])('a pull is refused before a byte is fetched when $what', async ({ request, modelsRoot, code }) => {
  await using bench = await start()
  await expect(bench.pull(request, modelsRoot)).rejects.toMatchObject({ code })
  expect(bench.hub.sentBytes('cdn')).toBe(0)
  expect(bench.left()).toEqual([])
})

test('a pull does not replace another file, and keeps one that is the same', async () => {
  await using bench = await start()
  const source = `hf://${repo}@main/a.safetensors`
  await bench.pull({ source: `hf://${repo}@main/b.safetensors`, to: 'x.safetensors' })
  await expect(bench.pull({ source, to: 'x.safetensors' })).rejects.toMatchObject({
    code: 'destination_invalid',
  })
  expect(bench.sha256('x.safetensors')).toBe(bench.hub.file('b.safetensors').content.sha256)
  const { content } = bench.hub.file('a.safetensors')
  writeFileSync(join(bench.modelsRoot, 'a.safetensors'), content.read(0, content.sizeBytes))
  const sent = bench.hub.sentBytes('cdn')
  expect(await bench.pull({ source })).toMatchObject({ model: { state: 'done', sha256: content.sha256 } })
  expect(bench.hub.sentBytes('cdn')).toBe(sent)
})

test('a file that the disk cannot hold is refused before its first byte, with the numbers', async () => {
  await using bench = await start()
  const source = `hf://${repo}@main/a.safetensors`
  const huge = async (reference: string, asked: AbortSignal) => ({
    ...(await resolveSource(reference, { ...bench.resolve, signal: asked })),
    sizeBytes: 10 ** 15,
  })
  const pulling = pullModel(
    { source, to: null, allowPickle: false },
    { downloads: bench.downloads, resolve: huge, modelsRoot: bench.modelsRoot, signal },
  )
  await expect(pulling).rejects.toMatchObject({ code: 'disk_too_small', message: /1000\.0 TB of downloads/ })
  expect(bench.hub.sentBytes('cdn')).toBe(0)
})

test('verify reads every byte again; what was damaged is told, marked, and fetched again by the next run', async () => {
  await using bench = await start()
  const files = ['a.safetensors', 'b.safetensors'].map((path) => bench.planned(path))
  await bench.downloads.fetchAll(files, { signal })
  expect(await bench.downloads.verify({ signal })).toEqual([])

  damage(join(bench.modelsRoot, 'a.safetensors'))
  rmSync(join(bench.modelsRoot, 'b.safetensors'))
  const problems = await bench.downloads.verify({ signal })
  expect(problems).toMatchObject([
    { code: 'file_damaged', subject: 'a.safetensors' },
    { code: 'file_damaged', subject: 'b.safetensors' },
  ])
  expect(bench.downloads.rows()).toMatchObject([
    { to: 'a.safetensors', state: 'failed', problem: { code: 'file_damaged' } },
    { to: 'b.safetensors', state: 'failed' },
  ])
  expect(bench.eventsOf('download.damaged')).toHaveLength(2)

  // The mark outlives the agent, although size and time of the file could look right.
  const fresh = bench.makeDownloads()
  expect(await fresh.models()).toMatchObject([{ state: 'failed', sha256: null, verifiedAt: null }])
  expect(await Promise.all(files.map(fresh.proven))).toEqual([undefined, undefined])
  await fresh.fetchAll(files, { signal })
  for (const { to } of files) expect(bench.sha256(to)).toBe(bench.hub.file(to).content.sha256)
  expect(await fresh.verify({ signal })).toEqual([])
})

test('verify: a file whose bytes changed behind an unchanged size and time is found', async () => {
  await using bench = await start()
  await bench.fetch(bench.planned('a.safetensors'))
  const path = join(bench.modelsRoot, 'a.safetensors')
  const { utimesSync, statSync } = await import('node:fs')
  const before = statSync(path)
  damage(path)
  utimesSync(path, before.atime, before.mtime)
  expect(await bench.downloads.verify({ signal })).toMatchObject([{ code: 'file_damaged' }])
})

test('verify: a damaged blob and a missing link of a snapshot are found, and the next run mends both', async () => {
  await using bench = await start()
  const hfHome = join(bench.folder, 'hf')
  const request = { snapshot: `hf://${repo}@main`, include: ['*.safetensors', '*.json'], exclude: [] }
  const snapshot = await planSnapshot(request, { ...bench.resolve, signal })
  const planned = { snapshot, hfHome, optional: false, allowPickle: false }
  await bench.downloads.fetchSnapshots([planned], { signal })
  expect(await bench.downloads.verify({ signal })).toEqual([])

  const folder = join(hfHome, 'hub', 'models--owner--repo')
  const link = join(folder, 'snapshots', snapshot.commit, 'a.safetensors')
  damage(link)
  expect(await bench.downloads.verify({ signal })).toMatchObject([
    { code: 'file_damaged', subject: `${snapshot.to}/a.safetensors` },
  ])
  expect(bench.downloads.rows()).toMatchObject([{ to: snapshot.to, state: 'failed' }])
  expect(await bench.makeDownloads().models()).toMatchObject([{ path: snapshot.to, state: 'failed' }])
  expect(await bench.downloads.fetchSnapshots([planned], { signal })).toMatchObject([{ state: 'done' }])
  expect(await bench.downloads.verify({ signal })).toEqual([])

  rmSync(link)
  expect(await bench.downloads.verify({ signal })).toMatchObject([{ message: /a link of it is missing/ }])
  expect(await bench.downloads.fetchSnapshots([planned], { signal })).toMatchObject([{ state: 'done' }])
  expect(existsSync(link)).toBe(true)
})

test('verify: a blob that two snapshots share is read once and judged for both', async () => {
  await using bench = await start()
  const hfHome = join(bench.folder, 'hf')
  const links: string[] = []
  for (const include of [['*.safetensors'], ['a.*', '*.json']]) {
    const request = { snapshot: `hf://${repo}@main`, include, exclude: [] }
    const snapshot = await planSnapshot(request, { ...bench.resolve, signal })
    await bench.downloads.fetchSnapshots([{ snapshot, hfHome, optional: false, allowPickle: false }], {
      signal,
    })
    links.push(join(hfHome, 'hub/models--owner--repo/snapshots', snapshot.commit, 'a.safetensors'))
  }
  expect(await bench.downloads.verify({ signal })).toEqual([])
  damage(links[0]!)
  const problems = await bench.downloads.verify({ signal })
  expect(problems.map(({ code }) => code)).toEqual(['file_damaged', 'file_damaged'])
  expect(bench.eventsOf('download.damaged')).toHaveLength(1)
})

test('a snapshot is remembered by what was asked for, as long as all of it is there', async () => {
  await using bench = await start()
  const hfHome = join(bench.folder, 'hf')
  const request = { snapshot: `hf://${repo}@main`, include: ['*.json'], exclude: [] }
  const snapshot = await planSnapshot(request, { ...bench.resolve, signal })
  const planned = { snapshot, hfHome, optional: false, allowPickle: false }
  expect(await bench.downloads.recallSnapshot(request, hfHome)).toBeUndefined()
  await bench.downloads.fetchSnapshots([planned], { signal })
  const fresh = bench.makeDownloads()
  expect(await fresh.recallSnapshot(request, hfHome)).toMatchObject({ snapshot })
  expect(await fresh.recallSnapshot({ ...request, include: [] }, hfHome)).toBeUndefined()
  expect(await fresh.recallSnapshot(request, join(bench.folder, 'other'))).toBeUndefined()
  rmSync(join(hfHome, 'hub', 'models--owner--repo', 'snapshots'), { recursive: true })
  expect(await fresh.recallSnapshot(request, hfHome)).toBeUndefined()
})
