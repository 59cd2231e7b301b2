import { AgentError } from '../../shared/contract/errors.ts'
import { type AddressPolicy, checkAddress } from '../../shared/sources/address-policy.ts'
import type { Fetcher, FetchReply } from '../../shared/sources/fetcher.ts'
import { createHttpConnection, type HttpConnection } from './http-connection.ts'
import { formatRequest } from './http-head.ts'
import { openSocket } from './open-socket.ts'
import { createSlabs } from './slabs.ts'

export type HttpClient = {
  readonly fetch: Fetcher
  /** Ends every connection at once. */
  close(): Promise<void>
}

export type HttpClientOptions = AddressPolicy & {
  /** How long a connection may be silent, and take to be made; shorter only in tests. */
  readonly timeouts?: { readonly bodyMs?: number; readonly headersMs?: number; readonly connectMs?: number }
}

/** Connections nobody uses for this long are closed, and the buffers of all of them freed. */
const IDLE_MS = 5_000

/**
 * HTTP/1.1 with one request at a time on a connection: with HTTP/2 all ranges of a file would share one connection and
 * its window. A silent connection counts as broken after 30 s, so that its range is asked for again elsewhere.
 */
export const createHttpClient = (options: HttpClientOptions): HttpClient => {
  const slabs = createSlabs()
  const idle = new Map<string, HttpConnection[]>()
  const busy = new Set<HttpConnection>()
  let turn = 0
  let sweep: NodeJS.Timeout | undefined

  const closeIdle = (): void => {
    for (const connection of [...idle.values()].flat()) connection.destroy(CLOSING)
    idle.clear()
    if (busy.size === 0) slabs.trim()
  }

  const takeIdle = (origin: string): HttpConnection | undefined => {
    const waiting = idle.get(origin) ?? []
    for (;;) {
      const connection = waiting.pop()
      if (connection === undefined || connection.isIdle()) return connection
    }
  }

  const connect = async (url: URL, signal: AbortSignal): Promise<HttpConnection> => {
    const connection = createHttpConnection({
      slabs,
      bodyMs: options.timeouts?.bodyMs ?? 30_000,
      headersMs: options.timeouts?.headersMs ?? 30_000,
    })
    turn += 1
    const socket = await openSocket(url, {
      policy: options,
      connectMs: options.timeouts?.connectMs ?? 10_000,
      turn,
      onread: connection.socketOptions,
      signal,
    })
    connection.attach(socket)
    return connection
  }

  /** Back to the others when its reply was read to the end, else closed: what is still on its way has no reader. */
  const release = (connection: HttpConnection, origin: string): void => {
    if (!busy.delete(connection)) return
    if (connection.isReusable()) {
      connection.rest()
      idle.set(origin, [...(idle.get(origin) ?? []), connection])
    } else {
      connection.destroy(CLOSING)
      connection.rest()
    }
    clearTimeout(sweep)
    sweep = setTimeout(closeIdle, IDLE_MS)
    sweep.unref()
  }

  const fetch: Fetcher = async (request, { signal }) => {
    signal.throwIfAborted()
    const url = new URL(request.url)
    checkAddress(url, options)
    const text = formatRequest(url, request)
    for (;;) {
      const kept = takeIdle(url.origin)
      const connection = kept ?? (await connect(url, signal))
      busy.add(connection)
      const abort = (): void => connection.destroy(signal.reason as Error)
      signal.addEventListener('abort', abort, { once: true })
      const letGo = (): void => {
        signal.removeEventListener('abort', abort)
        release(connection, url.origin)
      }
      try {
        const head = await connection.exchange(text)
        return toReply(head, connection, letGo)
      } catch (error) {
        letGo()
        signal.throwIfAborted()
        // The server closed a kept connection at the moment it was used again: not a failure of this request.
        if (kept !== undefined && !connection.hasAnswered()) continue
        throw connectionError(error, url)
      }
    }
  }
  return {
    fetch,
    close: () => {
      clearTimeout(sweep)
      for (const connection of busy) connection.destroy(CLOSING)
      closeIdle()
      return Promise.resolve()
    },
  }
}

const CLOSING = new AgentError('source_unavailable', 'the connection was given up')

const toReply = (
  head: { readonly status: number; readonly headers: Readonly<Record<string, string>> },
  connection: HttpConnection,
  discard: () => void,
): FetchReply => ({
  status: head.status,
  headers: head.headers,
  read: () => connection.read(),
  discard,
  body: copies(connection, discard),
})

/** For small bodies, whose readers keep the pieces. */
async function* copies(connection: HttpConnection, discard: () => void): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const piece = await connection.read()
      if (piece === undefined) return
      yield Buffer.from(piece)
    }
  } finally {
    discard()
  }
}

const connectionError = (error: unknown, url: URL): AgentError => {
  const why = error instanceof Error ? error.message : String(error)
  return new AgentError('source_unavailable', `${url.host}: ${why}`, { cause: error })
}
