import type { Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import { readLog } from './log-files.ts'
import type { ShimMessage, ShimRequest } from './records.ts'

const MAX_LINE_BYTES = 2 ** 20
const CHUNK_BYTES = 48 * 1024

/**
 * The shim's door: a socket for its own user alone. Whoever attaches is fed from the log files at the speed it reads,
 * so that a slow or dead reader costs no memory and never holds up the job.
 */
export const createDoor = (deps: {
  readonly folder: string
  readonly hello: () => ShimMessage
  readonly onRequest: (request: ShimRequest, answer: (message: ShimMessage) => void) => void
}) => {
  const clients = new Set<Client>()
  const server = createServer((socket) => {
    const client = createClient(socket, deps)
    clients.add(client)
    socket.once('close', () => clients.delete(client))
  })
  return {
    listen: (path: string): Promise<void> => listenPrivately(server, path),
    /** More output is in the log. */
    wake: (): void => clients.forEach((client) => client.feed()),
    /** Says the last word to everybody and closes. */
    end: (message: ShimMessage): void => {
      server.close()
      for (const client of clients) client.end(message)
    },
  }
}

type Client = { feed(): void; end(message: ShimMessage): void }

const createClient = (socket: Socket, deps: Parameters<typeof createDoor>[0]): Client => {
  let rest = ''
  let offset: number | undefined
  const send = (message: ShimMessage): boolean => socket.write(`${JSON.stringify(message)}\n`)

  const feed = (): void => {
    while (offset !== undefined && !socket.destroyed && !socket.writableNeedDrain) {
      const chunk = readLog(deps.folder, { offset, maxBytes: CHUNK_BYTES })
      if (chunk === undefined) return
      offset = chunk.offset + chunk.bytes.length
      send({ type: 'output', offset: chunk.offset, data: chunk.bytes.toString('base64') })
    }
  }

  socket.setEncoding('utf8')
  socket.on('error', () => socket.destroy())
  socket.on('drain', feed)
  socket.on('data', (text) => {
    const lines = `${rest}${text.toString()}`.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > MAX_LINE_BYTES) socket.destroy()
    for (const line of lines) {
      const request = parseRequest(line)
      if (request?.type === 'attach') {
        offset = request.fromOffset
        feed()
      } else if (request !== undefined) deps.onRequest(request, send)
    }
  })
  send(deps.hello())

  return {
    feed,
    end: (message) => {
      feed()
      socket.end(`${JSON.stringify(message)}\n`)
    },
  }
}

/** Only the agent of the same user can write here, so the shape is trusted; a damaged line is ignored. */
const parseRequest = (line: string): ShimRequest | undefined => {
  try {
    return JSON.parse(line) as ShimRequest
  } catch {
    return undefined
  }
}

/** The socket must not be open to others even for the moment between bind and chmod, hence the umask. */
const listenPrivately = async (server: Server, path: string): Promise<void> => {
  const umask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(umask)
  }
}
