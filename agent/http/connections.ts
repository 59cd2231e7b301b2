import type { Duplex } from 'node:stream'
import type { TokenRow } from '../../shared/contract/records.ts'

/** The connections that speak for each token, so that they end with it: streams and terminals outlive their request. */
export type Connections = {
  /** Remembers a connection until it closes; ends it when its token expires. */
  join(token: TokenRow, socket: Duplex): void
  /** Ends every connection of a token, but for the one that asks for it: that one still has its answer to get. */
  end(tokenId: string, asking: Duplex): void
}

/** setTimeout takes no more; a connection this old begins anew. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export const createConnections = (): Connections => {
  const byToken = new Map<string, Set<Duplex>>()
  return {
    join: (token, socket) => {
      const joined = byToken.get(token.id) ?? new Set()
      if (joined.has(socket) || socket.destroyed) return
      byToken.set(token.id, joined.add(socket))
      const timer = token.expiresAt === null ? undefined : endAt(Date.parse(token.expiresAt), socket)
      socket.once('close', () => {
        clearTimeout(timer)
        joined.delete(socket)
        if (joined.size === 0) byToken.delete(token.id)
      })
    },
    end: (tokenId, asking) => {
      for (const socket of byToken.get(tokenId) ?? []) if (socket !== asking) socket.destroy()
    },
  }
}

const endAt = (timeMs: number, socket: Duplex): NodeJS.Timeout =>
  setTimeout(() => socket.destroy(), Math.min(timeMs - Date.now(), LONGEST_TIMER_MS)).unref()
