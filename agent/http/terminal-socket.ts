import type { WebSocket } from 'ws'
import { WebSocketServer } from 'ws'
import { z } from 'zod'
import type { Box } from './box.ts'
import type { AcceptUpgrade } from './upgrade.ts'

type Terminal = Awaited<ReturnType<Box['processes']['terminal']>>

const MAX_MESSAGE_BYTES = 2 ** 20
/** A laptop that sleeps, or a line that was cut, is noticed after two of these. */
const PING_EVERY_MS = 20_000
/** RFC 6455, 7.4.1: the reader cannot keep up; it comes back and goes on from its last offset. */
const TOO_SLOW = 1013
const ENDED = 1000

const Size = z.object({
  type: z.literal('resize'),
  columns: z.number().int().min(1).max(10_000),
  rows: z.number().int().min(1).max(10_000),
})

/**
 * A terminal over a WebSocket: binary messages are its bytes, both ways; text messages from the client are its size, those to it
 * the offset of what follows.
 * Closed with 1000 when the process has ended, with 1013 when the reader is too slow. Any number may watch at once.
 */
export const acceptTerminal = (terminal: Terminal): AcceptUpgrade => {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
  })
  return (incoming, socket, head) => {
    // Also where the handshake fails or the peer has gone: nobody else would close it.
    if (socket.destroyed) terminal.close()
    socket.once('close', () => terminal.close())
    server.handleUpgrade(incoming, socket, head, (ws) => joinTerminal(ws, terminal))
  }
}

const joinTerminal = (ws: WebSocket, terminal: Terminal): void => {
  ws.on('message', (data, isBinary) => {
    if (isBinary) terminal.write(data as Buffer)
    else {
      const size = parseSize((data as Buffer).toString('utf8'))
      if (size) terminal.resize(size.columns, size.rows)
    }
  })
  ws.on('error', () => ws.terminate())
  const stopPings = keepAlive(ws)
  ws.on('close', () => {
    stopPings()
    terminal.close()
  })
  void terminal.closed.then((why) => {
    // What waits for it is still sent, though not for ever: it goes on from there when it comes back.
    if (why === 'slow') setTimeout(() => ws.terminate(), PING_EVERY_MS).unref()
  })
  send(ws, terminal).catch(() => ws.terminate())
}

/** One chunk after the other, each when the one before has left: what piles up does so in the terminal's queue alone. */
const send = async (ws: WebSocket, terminal: Terminal): Promise<void> => {
  let next: number | undefined
  for await (const { offset, bytes } of terminal.output) {
    // Told at the beginning and after a gap: with it a reader that comes back goes on at the same byte.
    if (offset !== next) ws.send(JSON.stringify({ type: 'offset', offset }))
    next = offset + bytes.byteLength
    await new Promise<void>((resolve, reject) => {
      ws.send(bytes, { binary: true }, (error) => (error ? reject(error) : resolve()))
    })
  }
  if ((await terminal.closed) === 'slow') ws.close(TOO_SLOW, 'too slow')
  else ws.close(ENDED, 'the process has ended')
}

const keepAlive = (ws: WebSocket): (() => void) => {
  let answered = true
  ws.on('pong', () => (answered = true))
  const timer = setInterval(() => {
    if (!answered) ws.terminate()
    answered = false
    ws.ping()
  }, PING_EVERY_MS)
  return () => clearInterval(timer)
}

const parseSize = (text: string): z.infer<typeof Size> | undefined => {
  try {
    return Size.safeParse(JSON.parse(text)).data
  } catch {
    // Not ours: a newer client may say more than this version knows.
    return undefined
  }
}
