import type { ClientRequest, IncomingHttpHeaders } from 'node:http'
import type { Duplex } from 'node:stream'

type Visitor = {
  readonly socket: Duplex
  /** What the visitor sent right behind its request. */
  readonly head: Buffer
}

/**
 * Passes an upgraded connection through: once the page has agreed, the bytes of both sides pass as they are. A page
 * that refuses or does not answer is a 502; when one side goes, so does the other.
 * @param outgoing the request to the page with its upgrade asked for, not sent yet
 */
export const joinUpgrade = (outgoing: ClientRequest, { socket, head }: Visitor): void => {
  const fail = (): void => {
    socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
  }
  socket.on('error', () => outgoing.destroy())
  socket.once('close', () => outgoing.destroy())
  if (socket.destroyed) outgoing.destroy()
  outgoing.on('error', fail)
  outgoing.on('response', (response) => {
    response.resume()
    fail()
  })
  outgoing.on('upgrade', (response, page, first) => {
    socket.write(agreement(response.headers))
    page.on('error', () => socket.destroy())
    socket.on('error', () => page.destroy())
    page.once('close', () => socket.destroy())
    socket.once('close', () => page.destroy())
    if (first.length > 0) socket.write(first)
    if (head.length > 0) page.write(head)
    page.pipe(socket)
    socket.pipe(page)
  })
  outgoing.end()
}

/** Of the page's own headers only those that the agreement is made of. */
const agreement = (headers: IncomingHttpHeaders): string =>
  [
    'HTTP/1.1 101 Switching Protocols',
    'connection: Upgrade',
    'upgrade: websocket',
    ...Object.entries(headers)
      .filter(([name]) => name.startsWith('sec-websocket-'))
      .map(([name, value]) => `${name}: ${String(value)}`),
    '\r\n',
  ].join('\r\n')
