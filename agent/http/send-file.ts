import type { FileHandle } from 'node:fs/promises'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import { parseRange } from './parse-range.ts'

export type OpenFile = { readonly handle: FileHandle; readonly sizeBytes: number; readonly etag: string }

/** Enough to keep a fast link busy; two of them for each reader. */
const PIECE_BYTES = 2 ** 18
/** What is kept for the next reader. */
const MOST_FREE = 8

/**
 * Answers GET for an open file: a single byte range (RFC 9110 §14), If-Range against the strong ETag, 416 with the
 * size. Returns when everything was handed to the kernel or the reader has gone; the handle is closed then.
 *
 * It writes to the connection itself instead of returning a body: only then is it known when a piece has left, and its
 * memory can be used again. New memory for each piece costs more than reading and sending it, in collections: V8 begins
 * one each time that 64 MB outside of its heap have come.
 */
export const createFileSender = (log: Log) => {
  const free: Buffer[] = []
  const take = (): Buffer => free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  const give = (piece: Buffer): void => {
    if (free.length < MOST_FREE) free.push(piece)
  }

  return async (file: OpenFile, asked: IncomingHttpHeaders, outgoing: ServerResponse): Promise<void> => {
    const { handle } = file
    const pieces = [take(), take()] as const
    let sent = Promise.resolve()
    let isReading = false
    try {
      const range = writeHead(file, asked, outgoing)
      for (let at = range.start, turn = 0; at <= range.end; turn += 1) {
        const piece = turn % 2 === 0 ? pieces[0] : pieces[1]
        const length = Math.min(piece.byteLength, range.end - at + 1)
        isReading = true
        const { bytesRead } = await handle.read(piece, 0, length, at)
        if (bytesRead === 0) throw new AgentError('checkpoint_changed', 'the file became shorter')
        isReading = false
        await sent
        sent = write(outgoing, piece.subarray(0, bytesRead))
        // It may fail while the next piece is read; it is looked at after that.
        sent.catch(() => undefined)
        at += bytesRead
      }
      await sent
      outgoing.end()
    } catch (error) {
      // Of a reader that has gone nobody need know.
      if (isReading)
        log.warn('a file could not be sent', { request: outgoing.req.url, error: errorText(error) })
      // The head has said how much comes; a connection that ends before is how the reader learns that it did not.
      outgoing.destroy(error instanceof Error ? error : undefined)
    } finally {
      await sent.catch(() => undefined)
      pieces.forEach(give)
      await handle.close()
    }
  }
}

/** @returns the offsets to send, the last one included; an end before the start: nothing */
const writeHead = (
  { sizeBytes, etag }: OpenFile,
  { range: asked, 'if-range': ifRange }: IncomingHttpHeaders,
  outgoing: ServerResponse,
): { readonly start: number; readonly end: number } => {
  const common = {
    etag,
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'cache-control': 'no-transform',
  }
  const isOther = ifRange !== undefined && ifRange !== etag
  const range = asked === undefined || isOther ? 'whole' : parseRange(asked, sizeBytes)
  if (range === 'unsatisfiable') {
    outgoing.writeHead(416, { ...common, 'content-range': `bytes */${sizeBytes}`, 'content-length': 0 })
    return { start: 0, end: -1 }
  }
  if (range === 'whole') {
    outgoing.writeHead(200, { ...common, 'content-length': sizeBytes })
    return { start: 0, end: sizeBytes - 1 }
  }
  const { start, end } = range
  const of = `bytes ${start}-${end}/${sizeBytes}`
  outgoing.writeHead(206, { ...common, 'content-range': of, 'content-length': end - start + 1 })
  return range
}

/** Until the bytes have left this process. @throws Error when the reader goes away first */
const write = (outgoing: ServerResponse, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    const gone = (): void => reject(new Error('the reader has gone'))
    outgoing.once('close', gone)
    outgoing.write(bytes, (error) => {
      outgoing.removeListener('close', gone)
      if (error) reject(error)
      else resolve()
    })
  })
