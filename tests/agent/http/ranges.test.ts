import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { answerFile, parseRange } from '../../../agent/http/ranges.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ga-range-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const TEXT = '0123456789'
const ask = async (headers: Record<string, string>, text = TEXT) => {
  const path = join(folder, 'file')
  writeFileSync(path, text)
  const handle = await open(path)
  const answer = await answerFile(
    { handle, sizeBytes: text.length, etag: '"sha256-abc"' },
    new Headers(headers),
  )
  return { status: answer.status, range: answer.headers.get('content-range'), text: await answer.text() }
}

test.each([
  ['bytes=0-', { start: 0, end: 9 }],
  ['bytes=3-5', { start: 3, end: 5 }],
  ['bytes=8-100', { start: 8, end: 9 }],
  ['bytes=-4', { start: 6, end: 9 }],
  ['bytes=-100', { start: 0, end: 9 }],
  ['bytes=10-', 'unsatisfiable'],
  ['bytes=5-3', 'unsatisfiable'],
  ['bytes=0-1,4-5', 'whole'],
  ['lines=1-2', 'whole'],
  ['bytes=-', 'whole'],
  ['bytes=a-b', 'whole'],
])('of ten bytes, %s is %j', (header, expected) => {
  expect(parseRange(header, 10)).toEqual(expected)
})

test('a range is answered with exactly its bytes', async () => {
  expect(await ask({ range: 'bytes=3-5' })).toEqual({ status: 206, range: 'bytes 3-5/10', text: '345' })
})

test('a range beyond the end is 416 with the size', async () => {
  expect(await ask({ range: 'bytes=10-' })).toEqual({ status: 416, range: 'bytes */10', text: '' })
})

test('a range for another version (If-Range) is answered with the whole file', async () => {
  expect(await ask({ range: 'bytes=3-5', 'if-range': '"sha256-old"' })).toMatchObject({
    status: 200,
    text: TEXT,
  })
  expect(await ask({ range: 'bytes=3-5', 'if-range': '"sha256-abc"' })).toMatchObject({
    status: 206,
    text: '345',
  })
})

test('an empty file is answered, with and without a range', async () => {
  expect(await ask({}, '')).toMatchObject({ status: 200, text: '' })
  expect(await ask({ range: 'bytes=0-' }, '')).toMatchObject({ status: 416, range: 'bytes */0' })
})

test('a file that becomes shorter while it is sent ends in an error, and its handle is closed', async () => {
  const path = join(folder, 'file')
  writeFileSync(path, TEXT)
  const handle = await open(path)
  const answer = await answerFile({ handle, sizeBytes: 20, etag: '"sha256-abc"' }, new Headers())
  await expect(answer.text()).rejects.toThrow('shorter')
  expect(handle.fd).toBe(-1)
})

test('a body that nobody reads to its end closes its file', async () => {
  const path = join(folder, 'file')
  writeFileSync(path, Buffer.alloc(8 * 2 ** 20))
  const handle = await open(path)
  const { body } = await answerFile({ handle, sizeBytes: 8 * 2 ** 20, etag: '"sha256-abc"' }, new Headers())
  const reader = body?.getReader()
  await reader?.read()
  await reader?.cancel()
  expect(handle.fd).toBe(-1)
})
