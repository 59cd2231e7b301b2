import { expect, test } from 'vitest'
import type { FaultAction } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'

const repo = 'owner/repo'
const path = 'a.safetensors'

const html = '<!DOCTYPE html><html><body>Log in</body></html>'
const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 5\n`

test.each<{ name: string; text: string; contentType: string; code: string }>([
  { name: 'case 66: a login page', text: html, contentType: 'text/html', code: 'login_required' },
  {
    name: 'case 66: a login page of no type',
    text: html,
    contentType: 'application/octet-stream',
    code: 'login_required',
  },
  {
    name: 'case 67: a JSON error',
    text: '{"error":"nope"}',
    contentType: 'application/octet-stream',
    code: 'not_a_model',
  },
  {
    name: 'case 67: a JSON error that says so',
    text: '{"error":"nope"}',
    contentType: 'application/json',
    code: 'not_a_model',
  },
  { name: 'case 68: an LFS pointer', text: pointer, contentType: 'text/plain', code: 'not_a_model' },
])('$name with 200 is told as $code and nothing is kept', async ({ text, contentType, code }) => {
  const does: FaultAction = {
    kind: 'answer',
    status: 200,
    headers: { 'content-type': contentType },
    body: text,
  }
  await using bench = await startBench({ files: [{ repo, path, faults: [{ at: 'mirror', does }] }] })
  const outcome = await bench.fetch(bench.planned(path, { from: [`${bench.hub.mirrorUrl}/${path}`] }))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code } })
  expect(bench.left()).toEqual([])
})

test('T40 and case 70: a safetensors file that is shorter than its header says is told as truncated', async () => {
  const header = JSON.stringify({ w: { dtype: 'U8', shape: [900], data_offsets: [0, 900] } })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const text = length.toString('latin1') + header + 'x'.repeat(100)
  await using bench = await startBench({ files: [{ repo, path, text }] })
  const outcome = await bench.fetch(bench.planned(path))
  expect(outcome.problem?.message).toContain('is truncated')
  expect(bench.left()).toEqual([])
})

test.each([
  { what: 'a pickle', text: '\u0080\u0002ctorch._utils\n_rebuild_tensor_v2\nq\u0000.' },
  {
    what: 'a zip of pickles, as torch writes them',
    text: `PK\u0003\u0004${'\u0000'.repeat(60)}archive/data.pkl`,
  },
])('T40: $what under the name of a safetensors file is not installed, and why is told', async ({ text }) => {
  await using bench = await startBench({ files: [{ repo, path, text }] })
  const outcome = await bench.fetch(bench.planned(path))
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'not_a_model' } })
  expect(outcome.problem?.message).toMatch(/safetensors/)
  expect(bench.left()).toEqual([])
})

test('T40: a pickle is refused before anything is asked, and fetched when it is allowed', async () => {
  await using bench = await startBench({ files: [{ repo, path: 'a.ckpt', sizeBytes: 1000 }] })
  const refused = await bench.fetch(bench.planned('a.ckpt'))
  expect(refused).toMatchObject({ state: 'failed', problem: { code: 'pickle_refused' } })
  expect(bench.hub.requests).toEqual([])
  expect(await bench.fetch(bench.planned('a.ckpt', { allowPickle: true }))).toMatchObject({ state: 'done' })
})

test.each([
  { what: 'a page of no type', text: html, code: 'login_required' },
  { what: 'an LFS pointer', text: pointer, code: 'not_a_model' },
])(
  'cases 66 and 68: $what in the place of a larger file is told as that, and nothing is kept',
  async (one) => {
    const does: FaultAction = {
      kind: 'answer',
      status: 200,
      body: one.text,
      headers: { 'content-length': String(Buffer.byteLength(one.text)) },
    }
    await using bench = await startBench({ files: [{ repo, path, faults: [{ at: 'cdn', does }] }] })
    const outcome = await bench.fetch(bench.planned(path))
    expect(outcome).toMatchObject({ state: 'failed', problem: { code: one.code } })
    expect(bench.left()).toEqual([])
  },
)

test('a source that gives no byte leaves no partial file', async () => {
  const does: FaultAction = { kind: 'answer', status: 403 }
  await using bench = await startBench({ files: [{ repo, path, faults: [{ at: 'cdn', does }] }] })
  expect(await bench.fetch(bench.planned(path))).toMatchObject({ state: 'failed' })
  expect(bench.left()).toEqual([])
})
