import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { resolveAhead } from '../../../shared/sources/resolve-source.ts'
import { GOOD_TOKEN } from '../../support/hub/hub-model.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

test('cases 28, 32 and 34: the token reaches the hub alone, and is in no event, row or file', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: 5 * MB, gated: true }],
    hfToken: GOOD_TOKEN,
  })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  const seen = (at: string) => bench.hub.requests.filter((request) => request.at === at)
  expect(seen('hub').map((request) => request.authorization)).toEqual([`Bearer ${GOOD_TOKEN}`])
  expect(seen('cdn').length).toBeGreaterThan(0)
  expect(seen('cdn').filter((request) => request.authorization ?? request.cookie)).toEqual([])
  const told = JSON.stringify([bench.events, bench.downloads.rows()])
  expect(told).not.toContain(GOOD_TOKEN)
  expect(told).not.toContain('Signature')
})

test('case 43: a hub that keeps failing is asked again, then the mirror gives the file', async () => {
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: 3 * MB, faults: [{ at: 'hub', does: { kind: 'answer', status: 500 } }] },
    ],
  })
  const { content } = bench.hub.file(path)
  const mirror = `${bench.hub.mirrorUrl}/${path}`
  const file = bench.planned(path, { sha256: content.sha256, from: [`hf://${repo}@main/${path}`, mirror] })
  expect(await bench.fetch(file)).toMatchObject({ state: 'done', problem: null })
  expect(bench.hub.requests.filter((request) => request.at === 'hub').length).toBeGreaterThan(1)
  expect(bench.eventsOf('download.source-failed')[0]?.data).toMatchObject({
    source: `hf://${repo}@main/${path}`,
    code: 'source_unavailable',
    next: mirror,
  })
})

test('case 88: a file starts at its primary again, whatever failed for the file before it', async () => {
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: MB, faults: [{ at: 'cdn', does: { kind: 'answer', status: 404 } }] },
      { repo, path: 'b.safetensors', sizeBytes: MB },
    ],
  })
  for (const name of [path, 'b.safetensors']) {
    const from = [`hf://${repo}@main/${name}`, `${bench.hub.mirrorUrl}/${name}`]
    expect(await bench.fetch(bench.planned(name, { from }))).toMatchObject({ state: 'done' })
  }
  expect(bench.eventsOf('download.done').map((event) => event.data?.['source'])).toEqual([
    `${bench.hub.mirrorUrl}/${path}`,
    `hf://${repo}@main/b.safetensors`,
  ])
})

test('case 89: a mirror without ranges gives the file in one stream', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: 3 * MB,
        faults: [
          { at: 'cdn', does: { kind: 'answer', status: 404 } },
          { at: 'mirror', does: { kind: 'ignore-range' } },
        ],
      },
    ],
  })
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from }))).toMatchObject({ state: 'done' })
  expect(bench.sha256(path)).toBe(bench.hub.file(path).content.sha256)
})

test('a mirror continues the partial file that the primary left', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: 20 * MB,
        faults: [{ at: 'cdn', after: 3, does: { kind: 'answer', status: 404 } }],
      },
    ],
  })
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from }))).toMatchObject({ state: 'done' })
  const resumed = Number(bench.eventsOf('download.resumed')[0]?.data?.['resumedBytes'])
  expect(resumed).toBeGreaterThan(MB)
  // One byte more: the mirror was asked for its first byte to learn what it has.
  expect(bench.hub.sentBytes('mirror')).toBe(20 * MB - resumed + 1)
})

test('case 69: wrong bytes are fetched once more, then the mirror gives the right ones', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: MB, faults: [{ at: 'cdn', does: { kind: 'corrupt' } }] }],
  })
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from }))).toMatchObject({ state: 'done' })
  expect(bench.hub.sentBytes('cdn')).toBe(2 * MB)
  expect(bench.eventsOf('download.source-failed')[0]?.data).toMatchObject({ code: 'hash_mismatch' })
  expect(bench.left()).toEqual([path])
})

test('case 69: wrong bytes from every source never get the name', async () => {
  await using bench = await startBench({
    files: [{ repo, path, sizeBytes: MB, faults: [{ at: 'cdn', does: { kind: 'corrupt' } }] }],
  })
  const outcome = await bench.fetch(bench.planned(path))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'hash_mismatch' } })
  expect(bench.left()).toEqual([])
})

test('case 71: a mirror with another file of the same size is refused by its hash', async () => {
  await using bench = await startBench({
    files: [
      {
        repo,
        path,
        sizeBytes: MB,
        faults: [
          { at: 'cdn', does: { kind: 'answer', status: 404 } },
          { at: 'mirror', does: { kind: 'other-file' } },
        ],
      },
    ],
  })
  const from = [`hf://${repo}@main/${path}`, `${bench.hub.mirrorUrl}/${path}`]
  expect(await bench.fetch(bench.planned(path, { from }))).toMatchObject({ state: 'failed' })
  expect(bench.eventsOf('download.source-failed')[1]?.data).toMatchObject({ code: 'hash_mismatch' })
  expect(bench.exists(path)).toBe(false)
})

test('a mirror that only its own hash proves is taken with a warning, and without any hash it is refused', async () => {
  const dead = { at: 'hub' as const, does: { kind: 'answer' as const, status: 410 } }
  await using bench = await startBench({
    files: [
      { repo, path, sizeBytes: MB, mirrorPublishes: true, faults: [dead] },
      { repo, path: 'b.safetensors', sizeBytes: MB, faults: [dead] },
    ],
  })
  const from = (name: string) => [`hf://${repo}@main/${name}`, `${bench.hub.mirrorUrl}/${name}`]
  expect(await bench.fetch(bench.planned(path, { from: from(path) }))).toMatchObject({
    state: 'done',
    problem: { code: 'mirror_unproven', severity: 'warning' },
  })
  const other = await bench.fetch(bench.planned('b.safetensors', { from: from('b.safetensors') }))
  expect(other.state).toBe('failed')
  expect(bench.eventsOf('download.source-failed').at(-1)?.data).toMatchObject({ code: 'mirror_unproven' })
})

test('a content host that sends on to another host is followed there', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: 5 * MB }], hfToken: GOOD_TOKEN })
  const { content, faults } = bench.hub.file(path)
  const headers = { location: `${bench.hub.mirrorUrl}/${path}` }
  faults.push({ at: 'cdn', does: { kind: 'answer', status: 302, headers } })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done', problem: null })
  expect(bench.sha256(path)).toBe(content.sha256)
  expect(bench.hub.sentBytes('mirror')).toBe(5 * MB)
  const elsewhere = bench.hub.requests.filter(({ at }) => at !== 'hub')
  expect(elsewhere.filter(({ authorization }) => authorization !== null)).toEqual([])
  // Asked once where to go, not for each range.
  expect(elsewhere.filter(({ at }) => at === 'cdn')).toHaveLength(1)
})

test('case 33: a content host that redirects to itself for ever is given up', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const headers = { location: '?Signature=again' }
  bench.hub.file(path).faults.push({ at: 'cdn', does: { kind: 'answer', status: 302, headers } })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'failed' })
  expect(bench.hub.requests.filter(({ at }) => at === 'cdn')).toHaveLength(11)
})

test('what a plan has found is not asked for again by the transfer, once', async () => {
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: MB }] })
  const reference = `hf://${repo}@main/${path}`
  const asked = () => bench.hub.requests.filter(({ at }) => at === 'hub').length
  await resolveAhead(reference, { ...bench.resolve, signal: new AbortController().signal })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(asked()).toBe(1)
  rmSync(join(bench.modelsRoot, path))
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(asked()).toBe(2)
})

test('what a plan has found is asked for again when its address has lived for half its time', async () => {
  await using bench = await startBench({ files: [{ repo, path: path, sizeBytes: MB, signedSeconds: 2 }] })
  const reference = `hf://${repo}@main/${path}`
  await resolveAhead(reference, { ...bench.resolve, signal: new AbortController().signal })
  await delay(1_100)
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'done' })
  expect(bench.hub.requests.filter(({ at }) => at === 'hub')).toHaveLength(2)
})
