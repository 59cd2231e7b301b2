/*
 * A small Hugging Face for measuring: one repository whose files lie in memory, so that serving costs as little as it can.
 *   node serve.ts <json of ServeOptions>      prints one line of JSON: {url, files}
 */
import { once } from 'node:events'
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { readCertificate } from '../../tests/support/hub/certificate.ts'

export type ServeOptions = {
  readonly files: readonly { readonly name: string; readonly sizeBytes: number }[]
  readonly https: boolean
  /** Bytes a second of most connections and of the rest; null is as fast as it goes. */
  readonly caps: { readonly slow: number; readonly fast: number; readonly slowOfTen: number } | null
}

export type Served = {
  readonly url: string
  /** Where the bytes are. */
  readonly dataUrl: string
  readonly certificate: string | null
  readonly files: readonly { readonly name: string; readonly sizeBytes: number; readonly sha256: string }[]
}

const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const CHUNK = 256 * 2 ** 10
// Not a multiple of anything a client asks for: a misplaced range changes the hash.
const base = randomBytes(64 * 2 ** 20 + 4099)

const options = JSON.parse(process.argv[2] ?? '') as ServeOptions

const piece = (file: number, start: number, most: number): Buffer => {
  const at = (start + file * 7919) % base.length
  return base.subarray(at, Math.min(base.length, at + most))
}

const hashOf = (file: number, sizeBytes: number): string => {
  const hash = createHash('sha256')
  for (let at = 0; at < sizeBytes;) {
    const bytes = piece(file, at, Math.min(CHUNK * 4, sizeBytes - at))
    hash.update(bytes)
    at += bytes.length
  }
  return hash.digest('hex')
}

const files = options.files.map((file, index) => ({ ...file, sha256: hashOf(index, file.sizeBytes) }))
const speeds = new WeakMap<Socket, number>()
let connections = 0
let sentBytes = 0

/** The same share of slow connections in every stretch of ten, in an order that no client can have learnt. */
const ORDER = [0, 7, 1, 2, 8, 3, 4, 9, 5, 6]
const speedOf = (socket: Socket): number => {
  const { caps } = options
  if (caps === null) return Infinity
  const known =
    speeds.get(socket) ?? ((ORDER[connections++ % 10] ?? 0) < caps.slowOfTen ? caps.slow : caps.fast)
  speeds.set(socket, known)
  return known
}

const listener: RequestListener = (request, response) => {
  const url = new URL(request.url ?? '/', 'http://x')
  const json = (body: unknown): void => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  response.on('error', () => undefined)
  if (url.pathname === '/stats') {
    json({ sentBytes })
    return
  }
  if (url.pathname.startsWith('/api/')) {
    json(
      url.pathname.includes('/tree/')
        ? files.map(({ name, sizeBytes, sha256 }) => ({
            type: 'file',
            path: name,
            size: sizeBytes,
            oid: 'a'.repeat(40),
            lfs: { oid: sha256, size: sizeBytes, pointerSize: 134 },
          }))
        : {
            _id: 'x',
            id: 'bench/files',
            sha: COMMIT,
            siblings: files.map(({ name }) => ({ rfilename: name })),
          },
    )
    return
  }
  const name = url.pathname.split('/').at(-1) ?? ''
  const index = files.findIndex((file) => file.name === name)
  const file = files[index]
  if (file === undefined) return void response.writeHead(404).end()
  if (url.pathname.includes('/resolve/'))
    return void response
      .writeHead(302, {
        'x-repo-commit': COMMIT,
        'x-linked-size': String(file.sizeBytes),
        'x-linked-etag': `"${file.sha256}"`,
        etag: `"${file.sha256}"`,
        'content-length': '0',
        location: `${dataUrl}/data/${name}`,
      })
      .end()
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const start = Number(range?.[1] ?? 0)
  const end = range?.[2] ? Math.min(file.sizeBytes, Number(range[2]) + 1) : file.sizeBytes
  response.writeHead(range ? 206 : 200, {
    'content-length': String(end - start),
    'accept-ranges': 'bytes',
    ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${file.sizeBytes}` } : {}),
  })
  if (request.method === 'HEAD') return void response.end()
  void send(index, { start, end, response, bytesPerSecond: speedOf(request.socket) })
}

const drained = async (response: ServerResponse): Promise<void> => {
  const gone = new AbortController()
  const { signal } = gone
  await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })])
  gone.abort()
}

const send = async (
  file: number,
  span: {
    readonly start: number
    readonly end: number
    readonly response: ServerResponse
    readonly bytesPerSecond: number
  },
): Promise<void> => {
  const { response, end } = span
  const startedMs = performance.now()
  for (let at = span.start; at < end && !response.destroyed;) {
    const bytes = piece(file, at, Math.min(CHUNK, end - at))
    at += bytes.length
    sentBytes += bytes.length
    if (!response.write(bytes)) await drained(response)
    const dueMs = ((at - span.start) / span.bytesPerSecond) * 1000
    const earlyMs = dueMs - (performance.now() - startedMs)
    if (earlyMs > 1) await delay(earlyMs)
  }
  response.end()
}

const certificate = options.https ? readCertificate() : undefined

const listen = (): Promise<string> =>
  new Promise((resolve) => {
    const server = certificate ? createTlsServer({ ...certificate }, listener) : createServer(listener)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      resolve(`${certificate ? 'https' : 'http'}://127.0.0.1:${port}`)
    })
  })

// The content host is another origin, as it is for the real hub.
const url = await listen()
const dataUrl = await listen()
const certificateText = certificate?.cert ?? null
console.log(JSON.stringify({ url, dataUrl, certificate: certificateText, files } satisfies Served))
