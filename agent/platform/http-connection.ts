import type { OnReadOpts, Socket } from 'node:net'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from './files.ts'
import { type ChunkDecoder, createChunkDecoder } from './http-chunks.ts'
import { broken, headText, type HttpHead, LONGEST_HEAD, parseHead } from './http-head.ts'
import { PIECE_BYTES, type Slabs } from './slabs.ts'

/*
 * One HTTP/1.1 connection that reads straight into buffers of its own. General clients hand out a fresh buffer for each
 * 16 or 64 KiB, which costs as much CPU as the decryption and leaves hundreds of megabytes of garbage; here the kernel
 * or the TLS layer writes into a slab, the slab is written to disk, and the next one is filled meanwhile.
 *
 *   idle → head → body → ended → idle …          any → failed
 */

export type HttpConnection = {
  readonly socketOptions: OnReadOpts
  attach(socket: Socket): void
  /** Sends one request and waits for the head of its reply. */
  exchange(request: string): Promise<HttpHead>
  /** The next bytes of the body, valid until the next call; undefined at its end. Throws when it broke off. */
  read(): Promise<Buffer | undefined>
  /** True when bytes of the reply to the present request came: it cannot be sent again elsewhere unnoticed. */
  hasAnswered(): boolean
  /** True when the reply was read to its end and the server keeps the connection. */
  isReusable(): boolean
  /** True while it waits for another request. */
  isIdle(): boolean
  /** Gives its buffers back. Only when nobody reads or writes them any more. */
  rest(): void
  /** Ends the connection; `read` then throws `reason`. */
  destroy(reason: Error): void
}

export type ConnectionOptions = {
  readonly slabs: Slabs
  /** Longest silence in the middle of a body. */
  readonly bodyMs: number
  readonly headersMs: number
}

/** Bytes that wait this long are handed over although the piece is not full, so that slow bodies move too. */
const LINGER_MS = 1_000
/** Where bytes land while no slab may be written: heads, and what TLS still held when it was paused. */
const LANDING_BYTES = 16 * 2 ** 10

export const createHttpConnection = (options: ConnectionOptions): HttpConnection => {
  const { slabs } = options
  const landing = Buffer.allocUnsafeSlow(LANDING_BYTES)
  let socket: Socket | undefined
  let state: 'idle' | 'head' | 'body' | 'ended' | 'failed' = 'idle'
  let failure: Error | undefined
  let head: HttpHead | undefined
  let left = 0
  let chunks: ChunkDecoder | undefined
  let strayBytes = false
  let answered = false
  let paused = false
  let filling: Buffer | undefined
  let filled = 0
  // What of the slab was handed over already.
  let start = 0
  let lent: Buffer | undefined
  let onHead: { resolve: (head: HttpHead) => void; reject: (error: Error) => void } | undefined
  let onPiece: (() => void) | undefined
  let linger: NodeJS.Timeout | undefined

  const fail = (error: Error): void => {
    if (state === 'failed') return
    // A body without a length ends with its connection.
    if (state === 'body' && head?.framing.kind === 'close' && error === CLOSED) {
      end()
      return
    }
    const wasReading = state !== 'ended' && state !== 'idle'
    state = wasReading ? 'failed' : state
    failure = error
    strayBytes = true
    onHead?.reject(error)
    onHead = undefined
    onPiece?.()
    socket?.destroy()
  }

  const end = (): void => {
    state = 'ended'
    onPiece?.()
  }

  const isReady = (): boolean => filled >= PIECE_BYTES || state === 'ended' || state === 'failed'

  /** Bytes of the body lie in the slab from `filled` on. */
  const take = (count: number): void => {
    if (filling === undefined) return
    if (chunks) {
      filled += chunks.decode(filling.subarray(filled, filled + count))
      if (chunks.hasRest()) strayBytes = true
      if (chunks.isDone()) end()
    } else {
      const mine = Math.min(count, left)
      if (mine < count) strayBytes = true
      filled += mine
      left -= mine
      if (left === 0) end()
    }
    if (isReady()) onPiece?.()
  }

  const readHead = (): void => {
    if (filling === undefined) return
    const end = filling.subarray(0, filled).indexOf('\r\n\r\n')
    if (end === -1) {
      if (filled > LONGEST_HEAD) throw broken('its head does not end')
      return
    }
    const parsed = parseHead(headText(filling.subarray(0, end)))
    const rest = filled - end - 4
    filling.copyWithin(0, end + 4, filled)
    filled = 0
    // Not the answer yet: “continue”, or hints.
    if (parsed.status < 200) {
      filled = rest
      readHead()
      return
    }
    head = parsed
    left = parsed.framing.kind === 'length' ? parsed.framing.bytes : Infinity
    chunks = parsed.framing.kind === 'chunked' ? createChunkDecoder() : undefined
    state = 'body'
    socket?.setTimeout(options.bodyMs)
    onHead?.resolve(parsed)
    onHead = undefined
    if (rest > 0 || left === 0) take(rest)
  }

  const land = (bytes: Buffer): void => {
    if (state === 'idle' || state === 'ended' || state === 'failed') {
      strayBytes = true
      return
    }
    filling ??= slabs.take()
    if (filled + bytes.length > filling.length) throw broken('more bytes came than were asked for')
    bytes.copy(filling, filled)
    if (state === 'body') take(bytes.length)
    else {
      filled += bytes.length
      readHead()
    }
  }

  const onBytes = (count: number, buffer: Uint8Array): boolean => {
    answered = true
    try {
      if (buffer.buffer === landing.buffer) land(landing.subarray(0, count))
      else take(count)
    } catch (error) {
      fail(error instanceof Error ? error : new Error(errorText(error)))
      return false
    }
    // Nobody waits for the full piece: the disk is slower than the network.
    if (state === 'body' && filled >= PIECE_BYTES) {
      paused = true
      return false
    }
    return true
  }

  /** Where the next bytes go. A slab is never named here while it could be lent before they come. */
  const nextBuffer = (): Buffer =>
    state === 'body' && !paused && filling !== undefined && filled < PIECE_BYTES
      ? filling.subarray(filled, filled + Math.max(1, Math.min(left, filling.length - filled)))
      : landing

  const handOver = (): Buffer | undefined => {
    const piece = filling?.subarray(start, filled)
    if (piece === undefined || piece.length === 0) {
      if (state === 'failed') throw failure ?? CLOSED
      return undefined
    }
    // The rest of a slab that is not full stays where the next bytes are on their way to.
    if (!isReady()) start = filled
    else {
      lent = filling
      filling = undefined
      filled = start = 0
    }
    return piece
  }

  const releaseLent = (): void => {
    if (lent === undefined) return
    if (filling === undefined) filling = lent
    else slabs.give(lent)
    lent = undefined
  }

  return {
    socketOptions: { buffer: nextBuffer, callback: onBytes },
    attach: (opened) => {
      socket = opened
      opened.on('error', fail)
      opened.on('close', () => fail(CLOSED))
      opened.on('end', () => fail(CLOSED))
      opened.on('timeout', () => {
        // Silence that this side asked for is none.
        if (!paused) fail(silent(state, options))
      })
    },
    exchange: (request) => {
      if (failure) return Promise.reject(failure)
      state = 'head'
      answered = false
      head = undefined
      filling ??= slabs.take()
      filled = start = 0
      return new Promise((resolve, reject) => {
        onHead = { resolve, reject }
        socket?.setTimeout(options.headersMs)
        // Over TLS the end of a body can still come after the connection was told to pause.
        if (paused) socket?.resume()
        paused = false
        socket?.write(request)
      })
    },
    read: async () => {
      releaseLent()
      if (!isReady()) {
        await new Promise<void>((resolve) => {
          const handOverEarly = (): void => {
            if (filled > start) resolve()
            else linger = setTimeout(handOverEarly, LINGER_MS)
          }
          onPiece = resolve
          linger = setTimeout(handOverEarly, LINGER_MS)
        })
        onPiece = undefined
        clearTimeout(linger)
      }
      const piece = handOver()
      if (state === 'body' && paused) {
        // The next piece fills while this one is written.
        filling ??= slabs.take()
        paused = false
        socket?.setTimeout(options.bodyMs)
        socket?.resume()
      }
      return piece
    },
    hasAnswered: () => answered,
    isReusable: () => state === 'ended' && !strayBytes && failure === undefined && head?.keepsAlive === true,
    isIdle: () => state === 'idle' && !strayBytes && failure === undefined,
    rest: () => {
      for (const slab of [filling, lent]) if (slab) slabs.give(slab)
      filling = lent = undefined
      filled = start = 0
      clearTimeout(linger)
      if (state === 'ended') state = 'idle'
    },
    destroy: (reason) => {
      fail(reason)
      socket?.destroy()
    },
  }
}

const CLOSED = new AgentError('source_unavailable', 'the connection was closed')

const silent = (state: string, options: ConnectionOptions): AgentError =>
  state === 'head'
    ? new AgentError('source_unavailable', `it does not answer within ${options.headersMs / 1000} s`)
    : new AgentError('source_unavailable', `nothing came for ${options.bodyMs / 1000} s`)
