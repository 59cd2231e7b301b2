import type { z } from 'zod'
import { AgentError } from '../contract/errors.ts'
import { askedDelayMs, isRetryableStatus, LONGEST_WAIT_MS } from '../sources/retry-after.ts'
import type { CallContext, ProviderDeps, ProviderName } from './provider.ts'
import type { ApiReply, ApiRequest } from './send-request.ts'

/** One call, with what the provider says about its kind. */
export type Call = {
  readonly method: ApiRequest['method']
  /** From the root of the endpoint, with its query. Never holds a secret. */
  readonly path: string
  readonly body?: unknown
  /** Calls of one kind may not follow each other faster than `everyMs`. */
  readonly kind: string
  readonly everyMs: number
  /** `repeatable`: doing it twice is doing it once. `once`: sent again only where it was refused unread (429). */
  readonly repeat: 'repeatable' | 'once'
  /** Values that an answer may repeat and no message may show. */
  readonly secrets?: readonly string[]
}

export type Ask = (call: Call, context: CallContext) => Promise<ApiReply>

const ATTEMPTS = 5

/**
 * Calls a provider: keeps its minimum intervals, waits after 429 and, where a call may be repeated, after a failure
 * that may pass. Answers that refuse are returned (the caller knows what 404 means there), but for a refused key.
 * @throws AgentError provider_key, provider_failed; the signal's reason
 */
export const createAsk = (provider: ProviderName, deps: ProviderDeps): Ask => {
  const nextMs = new Map<string, number>()

  /** Takes the next free moment of this kind of call, so that calls side by side keep the interval too. */
  const waitForTurn = async (call: Call, signal: AbortSignal): Promise<void> => {
    const nowMs = deps.clock.monotonicMs()
    const turnMs = Math.max(nowMs, nextMs.get(call.kind) ?? nowMs)
    nextMs.set(call.kind, turnMs + call.everyMs)
    if (turnMs > nowMs) await deps.clock.sleep(turnMs - nowMs, signal)
  }

  return async (call, { signal }) => {
    const key = deps.key()
    if (!key) throw new AgentError('provider_key', `there is no API key for ${provider}`)
    for (let failures = 1; ; failures += 1) {
      await waitForTurn(call, signal)
      let failure: AgentError
      let waitMs = 250 * 2 ** failures
      try {
        const reply = await deps.send(requestFor(call, { key, endpoint: deps.endpoint }), { signal })
        const isUnread = reply.status === 429
        if (!isRetryableStatus(reply.status) || (call.repeat === 'once' && !isUnread)) return reply
        failure = replyError(provider, { call, reply, key })
        // Vast.ai sends no Retry-After, and lengthens the interval of whoever comes too early: 12 s for a creation of 4.5.
        if (isUnread)
          waitMs =
            askedDelayMs(reply.headers, deps.clock.now()) ?? Math.max(waitMs, 2.7 * call.everyMs * failures)
      } catch (error) {
        signal.throwIfAborted()
        if (call.repeat === 'once' || !(error instanceof AgentError)) throw error
        failure = error
      }
      if (failures >= ATTEMPTS || waitMs > LONGEST_WAIT_MS) throw failure
      await deps.clock.sleep(waitMs, signal)
    }
  }
}

const requestFor = (call: Call, { key, endpoint }: { key: string; endpoint: string }): ApiRequest => ({
  method: call.method,
  url: `${endpoint}${call.path}`,
  headers: {
    accept: 'application/json',
    authorization: `Bearer ${key}`,
    'user-agent': 'gpu-agent',
    ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
  },
  ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
})

/** What a refusing answer says, with no secret in it. */
export const replyError = (
  provider: ProviderName,
  { call, reply, key }: { readonly call: Call; readonly reply: ApiReply; readonly key?: string },
): AgentError => {
  const said = [...(call.secrets ?? []), key ?? '']
    .filter((value) => value.length >= 4)
    .reduce((text, value) => text.replaceAll(value, '[secret]'), wordsOf(reply.text))
  const message = `${provider}: ${call.method} ${call.path} answered ${reply.status}${said === '' ? '' : `: ${said}`}`
  return new AgentError(isKeyRefused(reply) ? 'provider_key' : 'provider_failed', message)
}

/** True when the key itself is refused, or may not do this. */
export const isKeyRefused = (reply: ApiReply): boolean => reply.status === 401 || reply.status === 403

/** The message inside an error's body, in one short line. */
const wordsOf = (text: string): string => {
  const json = parseJson(text)
  const found =
    typeof json === 'object' && json !== null
      ? ['detail', 'msg', 'message', 'error', 'title']
          .map((name) => (json as Record<string, unknown>)[name])
          .find((value) => typeof value === 'string' && value !== '')
      : undefined
  return (typeof found === 'string' ? found : text).replace(/\s+/g, ' ').trim().slice(0, 200)
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    // A refusal may be plain text, as Vast.ai's 429 is.
    return undefined
  }
}

/** True for a body that is a JSON object: a 404 of the API, not of something that stands before it. */
export const isJsonObject = (reply: ApiReply): boolean => {
  const json = parseJson(reply.text)
  return typeof json === 'object' && json !== null
}

/** @throws AgentError provider_failed when the answer is not what the API promises */
export const readReply = <T>(
  schema: z.ZodType<T>,
  { provider, call, reply }: { provider: ProviderName; call: Call; reply: ApiReply },
): T => {
  const parsed = schema.safeParse(parseJson(reply.text))
  if (parsed.success) return parsed.data
  const where = parsed.error.issues[0]?.path.join('.') ?? ''
  throw new AgentError(
    'provider_failed',
    `${provider}: ${call.method} ${call.path} answered something that cannot be read${where === '' ? '' : ` (at ${where})`}`,
    { cause: parsed.error },
  )
}
