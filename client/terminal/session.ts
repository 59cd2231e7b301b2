import type { ClientOptions, RawData } from 'ws'
import { WebSocket } from 'ws'
import type { AgentError } from '../../shared/contract/errors.ts'
import { processPath } from '../api.ts'
import type { Way } from '../connection.ts'

/**
 * How a session over one connection came to its end. `broken` may be tried again from where it was, and so may
 * `behind`, at once: the process printed more than could be read.
 */
export type SessionEnd = 'ended' | 'detached' | 'broken' | 'behind'

export type Session = {
  readonly name: string
  readonly way: Way
  /** The offset to go on from; undefined begins shortly before the end. */
  readonly from: number | undefined
  readonly signal: AbortSignal
  /** Resolves when there is room for more. */
  readonly write: (bytes: Buffer) => Promise<void>
  /** Told the offset after each piece. */
  readonly onOffset: (offset: number) => void
  /** Given what sends keys and sizes, once there is a connection. */
  readonly onOpen: (terminal: RemoteTerminal) => void
}

export type RemoteTerminal = {
  type(bytes: Buffer): void
  resize(columns: number, rows: number): void
  detach(): void
}

const HANDSHAKE_MS = 30_000
const ENDED = 1000
const TOO_SLOW = 1013
const ENDS: ReadonlyMap<number, SessionEnd> = new Map([
  [ENDED, 'ended'],
  [TOO_SLOW, 'behind'],
])

/** One connection to a process's terminal, to its end. @throws AgentError when the agent refuses it */
export const joinTerminal = (session: Session): Promise<SessionEnd> =>
  new Promise((resolve, reject) => {
    const { way, signal } = session
    const query = session.from === undefined ? '' : `?from=${session.from}`
    const ws = new WebSocket(`ws://agent${processPath(session.name)}/terminal${query}`, {
      headers: way.authorization,
      // ws hands it to node:http, which also takes a connection that is given to its callback; ws’s types do not say so.
      createConnection: way.connect as unknown as NonNullable<ClientOptions['createConnection']>,
      handshakeTimeout: HANDSHAKE_MS,
      perMessageDeflate: false,
    })
    let detached = false
    let offset = session.from ?? 0
    const onAbort = (): void => ws.terminate()
    signal.addEventListener('abort', onAbort, { once: true })
    ws.on('open', () =>
      session.onOpen({
        type: (bytes) => ws.send(bytes, { binary: true }),
        resize: (columns, rows) => ws.send(JSON.stringify({ type: 'resize', columns, rows })),
        detach: () => {
          detached = true
          ws.close(ENDED)
        },
      }),
    )
    ws.on('message', (data, isBinary) => {
      if (!isBinary) {
        offset = offsetOf(data) ?? offset
        return
      }
      const bytes = data as Buffer
      // A screen that is slower than the process holds it up here, and the agent lets go of it in the end.
      ws.pause()
      void session.write(bytes).then(() => {
        offset += bytes.byteLength
        session.onOffset(offset)
        ws.resume()
      })
    })
    ws.on('unexpected-response', (_request, response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => reject(way.failure(response.statusCode ?? 0, text)))
    })
    ws.on('error', () => undefined)
    ws.on('close', (code) => {
      signal.removeEventListener('abort', onAbort)
      if (signal.aborted) reject(signal.reason as AgentError)
      else resolve(detached ? 'detached' : (ENDS.get(code) ?? 'broken'))
    })
  })

const offsetOf = (data: RawData): number | undefined => {
  const message = JSON.parse((data as Buffer).toString('utf8')) as { type?: unknown; offset?: unknown }
  return message.type === 'offset' && typeof message.offset === 'number' ? message.offset : undefined
}
