import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { parseTable, readListeners } from '../../../agent/audit/read-listeners.ts'

const listen = async (host: string): Promise<number> => {
  const server: Server = createServer()
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

test.each([
  { host: '127.0.0.1', public: false },
  { host: '127.0.0.53', public: false },
  { host: '0.0.0.0', public: true },
  { host: '::', public: true },
  { host: '::1', public: false },
  { host: '::ffff:127.0.0.1', public: false },
])('a socket on $host is found with its program, public: $public', async ({ host, public: isPublic }) => {
  const port = await listen(host)
  const found = (await readListeners()).filter((one) => one.port === port)
  expect(found).toHaveLength(1)
  expect(found[0]).toMatchObject({ protocol: 'tcp', public: isPublic, pid: process.pid })
})

test('a connection and a socket that only sends are no listeners', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4243 1
`
  expect(parseTable(table, '0A')).toEqual([{ address: '127.0.0.1', port: 8080, inode: '4242' }])
})

test('an IPv6 address has its short form', () => {
  const table = `head
   0: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1`
  expect(parseTable(table, '0A')).toEqual([{ address: '2001:db8::1', port: 80, inode: '7' }])
})
