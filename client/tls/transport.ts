import { Agent } from 'node:http'
import type { Connect, Transport } from '../transport.ts'
import { createTransport } from '../transport.ts'
import type { PinnedServer } from './connect-pinned.ts'
import { connectPinned } from './connect-pinned.ts'

/** Over TLS to a server whose key is pinned; connections are used again, each checked when it is made. */
export const createTlsTransport = (server: PinnedServer): Transport => {
  const open: Connect = (_, done) => {
    connectPinned(server, done)
    return undefined
  }
  const agent = Object.assign(new Agent({ keepAlive: true }), { createConnection: open })
  return createTransport({ agent }, open)
}
