import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { createHttpClient } from '../../../agent/platform/http-client.ts'
import { replyText } from '../../../shared/sources/fetcher.ts'

/** A server that sends exactly these bytes to each request, in these pieces, and counts its connections. */
const startServer = async (
  answers: readonly (readonly (string | Buffer)[])[],
  options: { closes?: boolean } = {},
) => {
  const sockets = new Set<Socket>()
  const requests: string[] = []
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      const answer = answers[Math.min(requests.length, answers.length - 1)] ?? []
      requests.push(bytes.toString())
      for (const piece of answer) socket.write(piece)
      if (options.closes) socket.end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const endpoints = { hf: 'https://huggingface.co', civitai: 'https://civitai.com' }
  const client = createHttpClient({
    endpoints,
    allowHosts: [host],
    timeouts: { bodyMs: 1_500, headersMs: 1_500 },
  })
  const signal = new AbortController().signal
  return {
    requests,
    sockets,
    get: (headers: Readonly<Record<string, string>> = {}) =>
      client.fetch({ url: `http://${host}/x?y=1`, headers }, { signal }),
    [Symbol.asyncDispose]: async () => {
      await client.close()
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

/** The text in pieces of one byte. */
const bytesOf = (text: string): string[] => Array.from({ length: text.length }, (_, at) => text.charAt(at))

const OK = 'HTTP/1.1 200 OK\r\n'

test('a reply is the same however its bytes are cut, and the connection serves the next request', async () => {
  const text = `${OK}Content-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello`
  await using at = await startServer([[text], bytesOf(text)])
  for (let round = 0; round < 3; round += 1) {
    const reply = await at.get({ range: 'bytes=0-4' })
    expect(reply).toMatchObject({ status: 200, headers: { 'x-a': '1, 2' } })
    expect(await replyText(reply)).toBe('hello')
  }
  expect(at.sockets.size).toBe(1)
  expect(at.requests[0]).toMatch(
    /^GET \/x\?y=1 HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\nrange: bytes=0-4\r\n\r\n$/,
  )
})

test('a body in chunks is put together, whatever extensions and trailers are around it', async () => {
  const text = `${OK}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n`
  await using at = await startServer([bytesOf(text)])
  expect(await replyText(await at.get())).toBe('hello world')
  expect(await replyText(await at.get())).toBe('hello world')
  expect(at.sockets.size).toBe(1)
})

test('hints before the answer are passed over, and a body without a length ends with its connection', async () => {
  const text = `HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}\r\nall of it`
  await using at = await startServer([[text]], { closes: true })
  expect(await replyText(await at.get())).toBe('all of it')
})

test.each([
  { name: 'case 63: two lengths that differ', head: 'Content-Length: 5\r\nContent-Length: 6\r\n' },
  { name: 'case 63: a negative length', head: 'Content-Length: -5\r\n' },
  { name: 'case 63: a length that is no number', head: 'Content-Length: five\r\n' },
  { name: 'a length beside chunks', head: 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n' },
  { name: 'a transfer coding that is not known', head: 'Transfer-Encoding: gzip\r\n' },
  { name: 'a line that is no header', head: 'nonsense\r\n' },
  { name: 'a head that does not end', head: `X: ${'x'.repeat(90_000)}` },
])('$name is a broken answer', async ({ head }) => {
  await using at = await startServer([[`${OK}${head}\r\nhello`]])
  await expect(at.get()).rejects.toMatchObject({
    code: 'source_unavailable',
    message: /the answer is broken/,
  })
})

test('case 62: chunks without their end, and a body that ends early, are no complete body', async () => {
  const torn = `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`
  const short = `${OK}Content-Length: 10\r\n\r\nhello`
  await using at = await startServer([[torn], [short]], { closes: true })
  for (let round = 0; round < 2; round += 1) {
    const reply = await at.get()
    expect(Buffer.from((await reply.read()) ?? []).toString()).toBe('hello')
    await expect(reply.read()).rejects.toThrow(/closed/)
    reply.discard()
  }
})

test('case 65: a connection whose body was given up, or went on too long, is not used again', async () => {
  const text = `${OK}Content-Length: 5\r\n\r\nhello`
  await using at = await startServer([
    [`${OK}Content-Length: 50\r\n\r\nhello`],
    [`${text}HTTP/1.1 200`],
    [text],
  ])
  const reply = await at.get()
  await reply.read()
  reply.discard()
  expect(await replyText(await at.get())).toBe('hello')
  expect(await replyText(await at.get())).toBe('hello')
  expect(at.sockets.size).toBe(3)
})

test('silence before and in the middle of an answer is a failure, and an abort ends both at once', async () => {
  await using mute = await startServer([[]])
  await expect(mute.get()).rejects.toMatchObject({ code: 'source_unavailable', message: /does not answer/ })
  await using at = await startServer([[`${OK}Content-Length: 50\r\n\r\nhello`]])
  const reply = await at.get()
  await reply.read()
  await expect(reply.read()).rejects.toThrow(/nothing came/)
  reply.discard()
})

test('a header that would break out of its line is never sent', async () => {
  await using at = await startServer([[`${OK}Content-Length: 0\r\n\r\n`]])
  await expect(at.get({ a: 'b\r\nauthorization: x' })).rejects.toMatchObject({ code: 'internal' })
  expect(at.requests).toEqual([])
})

test('a name in a head is read as the UTF-8 that servers send, or as Latin-1 where it is none', async () => {
  const head = (name: string) => `${OK}Content-Disposition: filename="${name}"\r\nContent-Length: 0\r\n\r\n`
  await using at = await startServer([[head('modèle 中')], [Buffer.from(head('modèle'), 'latin1')]])
  for (const name of ['modèle 中', 'modèle']) {
    const reply = await at.get()
    expect(reply.headers['content-disposition']).toBe(`filename="${name}"`)
    expect(await replyText(reply)).toBe('')
  }
})
