import type { Socket } from 'node:net'
import { createConnection } from 'node:net'
import { errnoOf } from '../platform/files.ts'
import { parseShimMessage } from './job-records.ts'
import type { ShimExit, ShimMessage, ShimRequest } from './shim/records.ts'

type Hello = Extract<ShimMessage, { type: 'hello' }>

export type ShimConnection = {
  readonly hello: Hello
  send(request: ShimRequest): void
  /** Settles when the connection ends: with the exit record, or with undefined when the shim went silently. */
  readonly ended: Promise<ShimExit | undefined>
  close(): void
}

export type ConnectResult =
  | { readonly kind: 'connected'; readonly connection: ShimConnection }
  /** Nothing listens there. */
  | { readonly kind: 'dead' }
  /** It listens but says nothing in time: stopped, or starved. */
  | { readonly kind: 'silent' }

type ConnectOptions = {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  readonly onMessage?: (message: ShimMessage) => void
}

/** Connects to a shim and waits for its greeting. */
export const connectShim = async (path: string, options: ConnectOptions): Promise<ConnectResult> => {
  options.signal?.throwIfAborted()
  const socket = createConnection(path)
  const ended = Promise.withResolvers<ShimExit | undefined>()
  const first = Promise.withResolvers<Hello | 'dead' | 'silent'>()
  const timer = setTimeout(() => first.resolve('silent'), options.timeoutMs)
  const onAbort = (): void => {
    socket.destroy()
  }
  options.signal?.addEventListener('abort', onAbort, { once: true })

  socket.on('error', (error) => {
    if (errnoOf(error) !== undefined) first.resolve('dead')
  })
  socket.once('close', () => {
    first.resolve('dead')
    ended.resolve(undefined)
  })
  readLines(socket, (line) => {
    const message = parseShimMessage(line)
    if (message === undefined) return
    if (message.type === 'hello') first.resolve(message)
    if (message.type === 'exited') ended.resolve(message)
    options.onMessage?.(message)
  })

  const hello = await first.promise
  clearTimeout(timer)
  options.signal?.removeEventListener('abort', onAbort)
  if (typeof hello === 'string') {
    socket.destroy()
    options.signal?.throwIfAborted()
    return { kind: hello }
  }
  return {
    kind: 'connected',
    connection: {
      hello,
      send: (request) => {
        socket.write(`${JSON.stringify(request)}\n`)
      },
      ended: ended.promise,
      close: () => socket.destroy(),
    },
  }
}

const readLines = (socket: Socket, onLine: (line: string) => void): void => {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (text) => {
    const lines = `${rest}${text.toString()}`.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
}
