import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { makeContent, type Content } from './content.ts'
import type { FaultAction } from './faults.ts'
import type { Exchange, ServedFile } from './hub-model.ts'

const CHUNK = 64 * 2 ** 10

/** Sends a file or the asked range of it, with the fault whose turn it is. */
export const serveContent = async (exchange: Exchange, file: ServedFile): Promise<void> => {
  const { request, response, at } = exchange
  const fault = file.pick(at)
  if (fault?.kind === 'answer') {
    response.writeHead(fault.status, fault.headers).end(fault.body)
    return
  }
  const size = file.content.sizeBytes
  const asked = fault?.kind === 'ignore-range' ? undefined : parseRange(request.headers.range, size)
  if (asked === 'unsatisfiable') {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end()
    return
  }
  const headers: Record<string, string> = { 'content-type': 'binary/octet-stream', 'accept-ranges': 'bytes' }
  if (at === 'mirror' && file.mirrorPublishes) headers['x-linked-etag'] = `"${file.content.sha256}"`
  // As on the real content network: 64 digits, not the file's hash, and another one at each edge.
  if (at === 'cdn') headers['etag'] = `"${(exchange.state.nextId++ % 2 ? 'e' : 'f').repeat(64)}"`
  if (fault?.kind === 'encode') headers['content-encoding'] = fault.encoding

  let { start, end } = asked ?? { start: 0, end: size }
  if (fault?.kind === 'shift-range') start = Math.min(end - 1, start + fault.byBytes)
  if (fault?.kind === 'short-range') end = Math.min(end, start + fault.bytes)
  const total = fault?.kind === 'other-total' ? fault.sizeBytes : fault?.kind === 'unknown-total' ? '*' : size
  if (asked && fault?.kind !== 'no-content-range')
    headers['content-range'] = `bytes ${start}-${end - 1}/${total}`
  if (fault?.kind === 'overlong') end = Math.min(size, end + fault.byBytes)
  else if (fault?.kind !== 'no-content-range' && fault?.kind !== 'torn-chunks')
    headers['content-length'] = String(end - start)
  response.writeHead(asked ? 206 : 200, headers)
  await sendBytes(exchange, bytesOf(file, fault), { start, end, fault })
}

const bytesOf = (file: ServedFile, fault: FaultAction | undefined): Content => {
  if (fault?.kind === 'other-file')
    return makeContent({ name: file.path, sizeBytes: file.content.sizeBytes, seed: `another ${file.path}` })
  if (fault?.kind !== 'corrupt') return file.content
  return {
    ...file.content,
    read: (start, end) => {
      const bytes = Buffer.from(file.content.read(start, end))
      const last = bytes.length - 1
      if (last >= 0) bytes[last] = (bytes[last] ?? 0) ^ 0xff
      return bytes
    },
  }
}

const sendBytes = async (
  { response, record }: Exchange,
  content: Content,
  span: { readonly start: number; readonly end: number; readonly fault: FaultAction | undefined },
): Promise<void> => {
  const { fault } = span
  const limit =
    fault?.kind === 'drop' || fault?.kind === 'stall' || fault?.kind === 'torn-chunks'
      ? fault.afterBytes
      : Infinity
  const chunk =
    fault?.kind === 'slow' ? Math.max(1, Math.min(CHUNK, Math.ceil(fault.bytesPerSecond / 10))) : CHUNK
  for (let at = span.start; at < span.end && !response.destroyed;) {
    const stop = Math.min(span.end, at + chunk, span.start + limit)
    const bytes = content.read(at, stop)
    if (bytes.length > 0 && !response.write(bytes)) await drained(response)
    record.sentBytes += bytes.length
    at = stop
    if (at - span.start >= limit) {
      if (fault?.kind === 'stall') return
      // Let what was sent arrive before the connection breaks.
      await delay(20)
      response.destroy()
      return
    }
    if (fault?.kind === 'slow') await delay((1000 * bytes.length) / fault.bytesPerSecond)
  }
  if (!response.destroyed) response.end()
}

const drained = async (response: ServerResponse): Promise<void> => {
  const gone = new AbortController()
  await Promise.race([
    once(response, 'drain', { signal: gone.signal }),
    once(response, 'close', { signal: gone.signal }),
  ])
  gone.abort()
}

const parseRange = (
  header: string | undefined,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | undefined => {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? '')
  if (!match) return undefined
  const start = Number(match[1])
  const end = match[2] === '' ? size : Math.min(size, Number(match[2]) + 1)
  return start >= size ? 'unsatisfiable' : { start, end }
}
