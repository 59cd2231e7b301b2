import type { NetConnectOpts, Socket } from 'node:net'
import { connect } from 'node:net'

/** A connection that sends bytes as they are, as no client would, and keeps what comes back. */
export type RawSocket = {
  readonly socket: Socket
  readonly received: () => string
  /** Resolves with everything that came, once the other side has closed. */
  readonly closed: Promise<string>
}

export const openRaw = (to: NetConnectOpts, bytes: string | Buffer): RawSocket => {
  const socket = connect(to)
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  socket.on('error', () => undefined)
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(text)))
  socket.write(bytes)
  return { socket, received: () => text, closed }
}

/** The first line of the answer to these bytes; empty when the connection was closed without one. */
export const statusLine = async (to: NetConnectOpts, bytes: string | Buffer): Promise<string> => {
  const { socket, received, closed } = openRaw(to, bytes)
  await Promise.race([
    closed,
    new Promise<void>((resolve) => {
      socket.on('data', () => {
        if (received().includes('\r\n')) resolve()
      })
    }),
  ])
  socket.destroy()
  return received().split('\r\n', 1)[0] ?? ''
}
