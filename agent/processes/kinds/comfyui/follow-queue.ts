import { randomBytes } from 'node:crypto'
import type { RawData } from 'ws'
import { WebSocket } from 'ws'
import { z } from 'zod'
import type { Clock } from '../../../platform/clock.ts'
import { getJson } from './ask-comfyui.ts'

/** `{"exec_info": {"queue_remaining": 2}}`: the running job and those that wait (server.py, get_queue_info). */
const QueueInfo = z.object({ exec_info: z.object({ queue_remaining: z.number().int().nonnegative() }) })
const Message = z.discriminatedUnion('type', [
  z.object({ type: z.literal('status'), data: z.object({ status: QueueInfo }) }),
  z.object({ type: z.literal('progress'), data: z.object({ value: z.number(), max: z.number() }) }),
])

type QueueWatch = {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Jobs that run or wait; null when it does not say. */
  readonly onRemaining: (remaining: number | null) => void
  /** ComfyUI tells it to whoever sent the job, and to everybody only where the job has no sender. */
  readonly onProgress: (progress: { readonly done: number; readonly total: number }) => void
}

const ASK_EVERY_MS = 5_000
/** While it does not answer, as at its start. */
const TRY_AGAIN_MS = 1_000
/** A preview of an image comes this way too. */
const LARGEST_MESSAGE = 16 * 2 ** 20

/**
 * Follows the queue of a ComfyUI: told at once by its WebSocket, and asked for regularly, because a WebSocket can stay
 * open and say nothing any more. Ends with the signal only.
 * @param url the address on loopback, with a slash at its end
 */
export const followQueue = async (url: string, watch: QueueWatch): Promise<void> => {
  await Promise.all([listen(url, watch), ask(url, watch)])
}

const ask = async (url: string, { clock, signal, onRemaining }: QueueWatch): Promise<void> => {
  for (;;) {
    const remaining = await askOnce(url, signal)
    onRemaining(remaining)
    await clock.sleep(remaining === null ? TRY_AGAIN_MS : ASK_EVERY_MS, signal)
  }
}

const askOnce = async (url: string, signal: AbortSignal): Promise<number | null> => {
  try {
    const info = QueueInfo.safeParse((await getJson(`${url}prompt`, signal)).value)
    return info.data?.exec_info.queue_remaining ?? null
  } catch {
    signal.throwIfAborted()
    return null
  }
}

const listen = async (url: string, watch: QueueWatch): Promise<void> => {
  // A name of our own: with that of a browser tab ComfyUI would send us what the tab waits for.
  const address = `${url.replace(/^http/, 'ws')}ws?clientId=gpu-agent-${randomBytes(8).toString('hex')}`
  for (;;) {
    await listenOnce(address, watch)
    await watch.clock.sleep(TRY_AGAIN_MS, watch.signal)
  }
}

const listenOnce = (address: string, { signal, onRemaining, onProgress }: QueueWatch): Promise<void> =>
  new Promise((resolve) => {
    signal.throwIfAborted()
    const socket = new WebSocket(address, {
      handshakeTimeout: ASK_EVERY_MS,
      maxPayload: LARGEST_MESSAGE,
      perMessageDeflate: false,
    })
    const close = (): void => socket.terminate()
    signal.addEventListener('abort', close, { once: true })
    // The close that follows an error tells the same.
    socket.on('error', () => undefined)
    socket.once('close', () => {
      signal.removeEventListener('abort', close)
      resolve()
    })
    socket.on('message', (data, isBinary) => {
      const message = isBinary ? undefined : parseMessage(data)
      if (message?.type === 'status') onRemaining(message.data.status.exec_info.queue_remaining)
      if (message?.type === 'progress') onProgress({ done: message.data.value, total: message.data.max })
    })
  })

/** undefined for the many messages that are not about the queue, and for what is no JSON. */
const parseMessage = (data: RawData): z.infer<typeof Message> | undefined => {
  try {
    return Message.safeParse(JSON.parse((data as Buffer).toString('utf8'))).data
  } catch {
    return undefined
  }
}
