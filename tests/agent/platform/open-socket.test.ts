import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { openSocket, type SocketOptions } from '../../../agent/platform/open-socket.ts'

const endpoints = { hf: 'https://huggingface.co', civitai: 'https://civitai.com' }

const startServer = async () => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const options: SocketOptions = {
    policy: { endpoints, allowHosts: ['two.example'] },
    connectMs: 2_000,
    turn: 0,
    onread: { buffer: Buffer.alloc(1), callback: () => true },
    signal: new AbortController().signal,
    // Nothing listens at the first one.
    lookUp: () => Promise.resolve([{ address: '127.0.0.2' }, { address: '127.0.0.1' }]),
  }
  return { url: new URL(`http://two.example:${port}/`), options, close: () => server.close() }
}

test('case 60: the next address of a name is tried when the first one is dead', async () => {
  const at = await startServer()
  const socket = await openSocket(at.url, at.options)
  expect(socket.remoteAddress).toBe('127.0.0.1')
  socket.destroy()
  at.close()
})

test('T37: a name is refused when one of its addresses is private, unless a person named the host', async () => {
  const at = await startServer()
  const policy = { endpoints, allowHosts: [] }
  const url = new URL('https://two.example/')
  await expect(openSocket(url, { ...at.options, policy })).rejects.toMatchObject({
    code: 'forbidden_address',
  })
  at.close()
})

test('a host none of whose addresses answers is told with what each of them said', async () => {
  const at = await startServer()
  at.close()
  await expect(openSocket(at.url, at.options)).rejects.toMatchObject({
    code: 'source_unavailable',
    message: /two\.example:\d+ cannot be reached \(connect ECONNREFUSED 127\.0\.0\.2.*127\.0\.0\.1/,
  })
})

test('T37: a name is looked up once: what was checked is what is connected to', async () => {
  const at = await startServer()
  const asked: string[] = []
  // Another answer to every question, as a name has that is rebound after the check.
  const lookUp = (host: string) => {
    asked.push(host)
    return Promise.resolve([{ address: `127.0.0.${asked.length}` }])
  }
  const socket = await openSocket(at.url, { ...at.options, lookUp })
  expect({ asked, to: socket.remoteAddress }).toEqual({ asked: ['two.example'], to: '127.0.0.1' })
  socket.destroy()
  at.close()
})
