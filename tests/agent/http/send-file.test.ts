import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createServer, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createFileSender } from '../../../agent/http/send-file.ts'
import { createLog } from '../../../agent/platform/log.ts'

let folder: string
let server: Server
let handles: FileHandle[]
let file: { path: string; sizeBytes: number }
let logged: string[]
const sendFile = createFileSender(
  createLog(
    (line) => logged.push(line),
    (text) => text,
    () => new Date(),
  ),
)

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ga-send-'))
  handles = []
  logged = []
  server = createServer((incoming, outgoing) => {
    const send = async (): Promise<void> => {
      const handle = await open(file.path)
      handles.push(handle)
      await sendFile({ handle, sizeBytes: file.sizeBytes, etag: '"sha256-abc"' }, incoming.headers, outgoing)
    }
    send().catch((error: unknown) => outgoing.destroy(error as Error))
  })
  await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve))
})
afterEach(() => {
  server.close()
  server.closeAllConnections()
  rmSync(folder, { recursive: true })
})

const write = (bytes: string | Buffer): void => {
  file = { path: join(folder, 'file'), sizeBytes: bytes.length }
  writeFileSync(file.path, bytes)
}
const ask = (headers: Record<string, string> = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    get({ socketPath: join(folder, 'socket'), agent: false, headers }, (response) => {
      const pieces: Buffer[] = []
      response.on('data', (piece: Buffer) => pieces.push(piece))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode,
          range: response.headers['content-range'],
          length: response.headers['content-length'],
          bytes: Buffer.concat(pieces),
        }),
      )
    }).on('error', reject)
  })
type Answer = {
  status: number | undefined
  range: string | undefined
  length: string | undefined
  bytes: Buffer
}
const allClosed = (): Promise<void> =>
  vi.waitFor(() => expect(handles.map(({ fd }) => fd)).toEqual(handles.map(() => -1)))

test('a range is answered with exactly its bytes', async () => {
  write('0123456789')
  expect(await ask({ range: 'bytes=3-5' })).toEqual({
    status: 206,
    range: 'bytes 3-5/10',
    length: '3',
    bytes: Buffer.from('345'),
  })
  await allClosed()
})

test('a range beyond the end is 416 with the size', async () => {
  write('0123456789')
  expect(await ask({ range: 'bytes=10-' })).toMatchObject({ status: 416, range: 'bytes */10', length: '0' })
  await allClosed()
})

test('a range for another version (If-Range) is answered with the whole file', async () => {
  write('0123456789')
  const range = 'bytes=3-5'
  expect(await ask({ range, 'if-range': '"sha256-old"' })).toMatchObject({ status: 200, length: '10' })
  expect(await ask({ range, 'if-range': '"sha256-abc"' })).toMatchObject({ status: 206, length: '3' })
})

test('an empty file is answered, with and without a range', async () => {
  write('')
  expect(await ask()).toMatchObject({ status: 200, length: '0' })
  expect(await ask({ range: 'bytes=0-' })).toMatchObject({ status: 416, range: 'bytes */0' })
  await allClosed()
})

test('many readers at once each get their own bytes, though the memory for them is shared', async () => {
  const bytes = randomBytes(5_000_003)
  write(bytes)
  const starts = Array.from({ length: 24 }, (_, index) => index * 150_001)
  const answers = await Promise.all(starts.map((start) => ask({ range: `bytes=${start}-` })))
  answers.forEach((answer, index) => {
    expect(answer.bytes.equals(bytes.subarray(starts[index]))).toBe(true)
  })
  await allClosed()
})

test('a file that becomes shorter while it is sent ends the connection early, its handle is closed, and the log says so', async () => {
  write(randomBytes(100_000))
  truncateSync(file.path, 50_000)
  await expect(ask()).rejects.toThrow('aborted')
  await allClosed()
  expect(logged.join()).toMatch(/could not be sent.*became shorter/)
})

test('a reader that goes away in the middle closes its file', async () => {
  write(Buffer.alloc(64 * 2 ** 20))
  await new Promise<void>((resolve, reject) => {
    get({ socketPath: join(folder, 'socket'), agent: false }, (response) => {
      response.once('data', () => {
        response.destroy()
        resolve()
      })
    }).on('error', reject)
  })
  await allClosed()
  expect(logged).toEqual([])
})
