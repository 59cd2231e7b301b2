import { StringDecoder } from 'node:string_decoder'
import { AgentError } from '../shared/contract/errors.ts'
import type { Api } from './api.ts'
import { connectionError } from './connection.ts'
import { backoffMs, sleep } from './wait.ts'

/** One message of the agent's event stream; without an id it is passing news and is not kept. */
export type StreamMessage = {
  readonly id: number | undefined
  readonly event: string
  readonly data: unknown
}

type FollowDeps = {
  readonly api: Api
  readonly signal: AbortSignal
  /** Told once when the stream broke and is tried again. */
  readonly onBroken: (error: AgentError) => void
  /** Told when it is back. */
  readonly onBack: () => void
}

/** The agent says something at least once a second; after this long the connection is dead. */
const SILENCE_MS = 30_000

/**
 * Messages from after event `after` on (undefined: from now on), for ever: when the agent restarts or the connection
 * drops, it connects again and goes on after the last event it has seen, so none is missed and none comes twice.
 * @throws AgentError the signal's reason, and what repeating does not repair (the token, the scope)
 */
export async function* followEvents(
  after: number | undefined,
  deps: FollowDeps,
): AsyncGenerator<StreamMessage> {
  const { api, signal } = deps
  let lastId = after
  let attempt = 0
  let broken = false
  for (;;) {
    const silence = createSilence()
    const ended = AbortSignal.any([signal, silence.signal])
    attempt += 1
    try {
      const reply = await api.openEvents(lastId, ended)
      for await (const message of parseMessages(reply.body, () => silence.heard())) {
        if (broken) deps.onBack()
        broken = false
        attempt = 0
        lastId = message.id ?? lastId
        yield message
      }
    } catch (error) {
      const known = connectionError(error, ended, api.label)
      if (signal.aborted || !isPassing(known)) throw known
      if (!broken) deps.onBroken(known)
      broken = true
    } finally {
      silence.stop()
    }
    await sleep(backoffMs(attempt), signal)
  }
}

/** True for failures of the way to the box, which end when the agent or the network is back. */
export const isPassing = (error: AgentError): boolean =>
  error.code === 'unreachable' || error.code === 'interrupted' || error.code === 'deadline'

const createSilence = (): { signal: AbortSignal; heard: () => void; stop: () => void } => {
  const controller = new AbortController()
  const arm = (): NodeJS.Timeout =>
    setTimeout(() => {
      controller.abort(new AgentError('unreachable', `nothing was heard for ${SILENCE_MS / 1000} s`))
    }, SILENCE_MS)
  let timer = arm()
  return {
    signal: controller.signal,
    heard: () => {
      clearTimeout(timer)
      timer = arm()
    },
    stop: () => {
      clearTimeout(timer)
    },
  }
}

/** Reads the format of server-sent events (HTML standard, section 9.2) as far as the agent uses it. */
export async function* parseMessages(
  body: AsyncIterable<unknown>,
  onBytes: () => void,
): AsyncGenerator<StreamMessage> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of body) {
    onBytes()
    const blocks = (rest + decoder.write(chunk as Buffer)).replaceAll('\r\n', '\n').split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const message = parseBlock(block)
      if (message !== undefined) yield message
    }
  }
}

const parseBlock = (block: string): StreamMessage | undefined => {
  const fields = new Map<string, string>()
  for (const line of block.split('\n')) {
    const [, name, value] = /^([^:]+): ?(.*)$/.exec(line) ?? []
    if (name === undefined || value === undefined) continue
    fields.set(name, name === 'data' && fields.has('data') ? `${fields.get('data') ?? ''}\n${value}` : value)
  }
  const data = fields.get('data')
  if (data === undefined) return undefined
  const id = Number(fields.get('id') ?? Number.NaN)
  return {
    id: Number.isInteger(id) ? id : undefined,
    event: fields.get('event') ?? 'message',
    data: parseData(data),
  }
}

const parseData = (data: string): unknown => {
  try {
    return JSON.parse(data)
  } catch {
    // Not the agent's: such a message says nothing to anybody.
    return undefined
  }
}
