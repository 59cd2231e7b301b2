import { rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Hono } from 'hono'
import { stream } from 'hono/streaming'
import { expect, onTestFinished, test } from 'vitest'
import { serve } from '../../../agent/http/serve.ts'
import { makeHome } from '../../support/agent-process.ts'
import { openRaw, statusLine } from '../../support/raw-socket.ts'

/* The server around the API, with limits that are short enough to wait for. */

const ENDLESS_CHUNK = Buffer.alloc(65_536, 'x')
const app = new Hono()
  .get('/', (c) => c.text('here'))
  .get('/endless', (c) =>
    stream(c, async (out) => {
      while (!out.aborted) await out.write(ENDLESS_CHUNK)
    }),
  )
  .get('/quiet', (c) =>
    stream(c, async (out) => {
      await out.write('first\n')
      await delay(1_500)
      await out.write('second\n')
    }),
  )

const start = async (limits: { readonly headersMs: number; readonly stalledMs: number }): Promise<string> => {
  const home = makeHome()
  const path = join(home, 's.sock')
  const server = await serve(app, { kind: 'unix', path }, limits)
  onTestFinished(async () => {
    await server.close()
    rmSync(home, { recursive: true })
  })
  return path
}
const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: agent\r\n\r\n`

test('T42: 32 readers that stop reading are dropped, and cost next to nothing until then', async () => {
  const path = await start({ headersMs: 10_000, stalledMs: 1_000 })
  const before = process.memoryUsage().rss
  const readers = Array.from({ length: 32 }, () => {
    const socket = createConnection(path)
    socket.write(get('/endless'))
    socket.pause()
    return { socket, dropped: new Promise((resolve) => socket.once('close', resolve)) }
  })
  await delay(500)
  const grown = process.memoryUsage().rss - before
  // What the kernel had taken already is still there to read; then comes the end.
  await delay(2_000)
  for (const { socket } of readers) socket.resume()
  await Promise.all(readers.map(({ dropped }) => dropped))
  expect(grown).toBeLessThan(40e6)
  expect(await statusLine({ path }, get('/'))).toBe('HTTP/1.1 200 OK')
})

test('a stream that is quiet for longer than a reader may stall goes on', async () => {
  const path = await start({ headersMs: 10_000, stalledMs: 300 })
  const { received, socket } = openRaw({ path }, get('/quiet'))
  while (!received().includes('second')) {
    expect(socket.destroyed).toBe(false)
    await delay(20)
  }
  socket.destroy()
})

test('T41: 200 connections that never finish their head are ended, and then there is room again', async () => {
  const path = await start({ headersMs: 600, stalledMs: 30_000 })
  const slow = Array.from({ length: 200 }, () => openRaw({ path }, 'GET / HTTP/1.1\r\nHost: agent\r\nX-A: '))
  const drip = setInterval(() => {
    for (const { socket } of slow) if (!socket.destroyed) socket.write('a')
  }, 100)
  onTestFinished(() => clearInterval(drip))
  const answers = await Promise.all(slow.map(({ closed }) => closed))
  // Those beyond the number of connections are closed at once, the others are told why.
  expect(answers.filter((text) => text.startsWith('HTTP/1.1 408')).length).toBeGreaterThan(50)
  expect(await statusLine({ path }, get('/'))).toBe('HTTP/1.1 200 OK')
})
