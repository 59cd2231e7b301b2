import type { FileHandle } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'

/** 1 MiB reads: enough to keep a fast link busy, small enough for many readers at once. */
const READ_BYTES = 2 ** 20

/**
 * Answers GET for an open file: a single byte range (RFC 9110 §14), If-Range against the strong ETag, 416 with the
 * size. The handle is closed when the body ends, is abandoned, or is not needed.
 */
export const answerFile = async (
  file: { readonly handle: FileHandle; readonly sizeBytes: number; readonly etag: string },
  headers: Headers,
): Promise<Response> => {
  const common = {
    etag: file.etag,
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    'cache-control': 'no-transform',
  }
  const asked = headers.get('range')
  const ifRange = headers.get('if-range')
  const range =
    asked === null || (ifRange !== null && ifRange !== file.etag)
      ? 'whole'
      : parseRange(asked, file.sizeBytes)
  if (range === 'unsatisfiable') {
    await file.handle.close()
    return new Response(null, {
      status: 416,
      headers: { ...common, 'content-range': `bytes */${file.sizeBytes}` },
    })
  }
  const { start, end } = range === 'whole' ? { start: 0, end: file.sizeBytes - 1 } : range
  const length = end - start + 1
  const body = length === 0 ? await closeEmpty(file.handle) : streamOf(file.handle, start, end)
  return new Response(body, {
    status: range === 'whole' ? 200 : 206,
    headers: {
      ...common,
      'content-length': String(length),
      ...(range === 'whole' ? {} : { 'content-range': `bytes ${start}-${end}/${file.sizeBytes}` }),
    },
  })
}

/** Not by way of a stream of node's: what is made of one for the web copies every byte. */
const streamOf = (handle: FileHandle, start: number, end: number): ReadableStream<Uint8Array> => {
  let at = start
  return new ReadableStream(
    {
      pull: async (controller) => {
        try {
          const bytes = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end - at + 1))
          const { bytesRead } = await handle.read(bytes, 0, bytes.byteLength, at)
          if (bytesRead === 0) throw new AgentError('checkpoint_changed', 'the file became shorter')
          controller.enqueue(bytes.subarray(0, bytesRead))
          at += bytesRead
          if (at <= end) return
          await handle.close()
          controller.close()
        } catch (error) {
          await handle.close()
          throw error
        }
      },
      cancel: () => handle.close(),
    },
    { highWaterMark: 1 },
  )
}

const closeEmpty = async (handle: FileHandle): Promise<null> => {
  await handle.close()
  return null
}

/** One range of `bytes=a-b`, `bytes=a-` or `bytes=-n`. What is not understood is ignored, as the RFC asks. */
export const parseRange = (
  header: string,
  sizeBytes: number,
): { readonly start: number; readonly end: number } | 'whole' | 'unsatisfiable' => {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header.trim())
  if (!match || (match[1] === '' && match[2] === '')) return 'whole'
  const suffix = match[1] === ''
  const start = suffix ? Math.max(0, sizeBytes - Number(match[2])) : Number(match[1])
  const end = suffix || match[2] === '' ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1)
  if (start >= sizeBytes || end < start) return 'unsatisfiable'
  return { start, end }
}
