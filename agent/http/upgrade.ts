import type { IncomingMessage, Server } from 'node:http'
import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'

/** Takes over the connection of a request to upgrade, once the gate has let it pass; it may be destroyed by then. */
export type AcceptUpgrade = (incoming: IncomingMessage, socket: Duplex, head: Buffer) => void

/** Where a route that takes a request to upgrade leaves its own `accept`. */
export type UpgradeSlot = { accept?: AcceptUpgrade }

type Fetch = (
  request: Request,
  env: { readonly incoming: IncomingMessage; readonly upgrade: UpgradeSlot },
) => Response | Promise<Response>

/**
 * Sends requests to upgrade (WebSockets) the way of every other request: the same gate, routes and errors. Only where a
 * route accepts, the connection changes hands; otherwise the answer is written and the connection ends.
 */
export const serveUpgrades = (server: Server, fetch: Fetch): { closeAll(): void } => {
  // The server itself forgets a connection that was handed over, and would wait for its end for ever.
  const open = new Set<Duplex>()
  server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A peer that goes away meanwhile is no failure of ours.
    socket.on('error', () => socket.destroy())
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    const upgrade: UpgradeSlot = {}
    const answer = async (): Promise<void> => {
      const response = await fetch(requestOf(incoming), { incoming, upgrade })
      if (upgrade.accept && response.ok) upgrade.accept(incoming, socket, head)
      else await refuse(socket, response)
    }
    answer().catch(() => socket.destroy())
  })
  return {
    closeAll: () => {
      for (const socket of open) socket.destroy()
    },
  }
}

const requestOf = (incoming: IncomingMessage): Request => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(incoming.headers))
    for (const one of Array.isArray(value) ? value : [value ?? '']) headers.append(name, one)
  return new Request(new URL(incoming.url ?? '/', 'http://agent'), { headers })
}

const refuse = async (socket: Duplex, response: Response): Promise<void> => {
  const body = Buffer.from(await response.arrayBuffer())
  const status = response.ok ? 400 : response.status
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    `content-type: ${response.headers.get('content-type') ?? 'text/plain'}`,
    `content-length: ${body.byteLength}`,
    'connection: close',
  ]
  socket.end(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), body]))
}
