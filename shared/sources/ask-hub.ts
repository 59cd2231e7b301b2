import { AgentError } from '../contract/errors.ts'
import { headersFor } from './authorization.ts'
import { isOnHub } from './endpoints.ts'
import { type FetchReply, replyText } from './fetcher.ts'
import { formatSource, type SourceReference } from './parse-source.ts'
import { explainRefusal, refusesToken, type Refusal } from './refusals.ts'
import type { ResolveContext } from './resolved-source.ts'
import { askedDelayMs, backoffMs, isRetryableStatus, LONGEST_WAIT_MS } from './retry-after.ts'

/** The repository that a question is about; its path is what messages name. */
export type HubSubject = Extract<SourceReference, { kind: 'hf' }>

export type HubAnswer = {
  readonly json: unknown
  readonly headers: Readonly<Record<string, string>>
}

const MOST_REDIRECTS = 5
/** A page of a repository's listing is some hundred kilobytes. */
const MOST_BYTES = 32 * 2 ** 20

/**
 * Asks the hub's API, again after a failure that may pass, and without the token where the hub does not accept it.
 * @throws AgentError gated, bad_token, repository_not_found, revision_not_found, rate_limited, source_unavailable,
 * source_refused, redirect_refused; the signal's reason
 */
export const askHub = (address: string, context: HubContext): Promise<HubAnswer> =>
  ask(address, context, async (reply) => ({ json: await readJson(reply, address), headers: reply.headers }))

/**
 * Asks a question whose answer is the status alone: the body may be anything.
 * @throws AgentError as askHub
 */
export const checkHub = (address: string, context: HubContext): Promise<void> =>
  ask(address, context, (reply) => {
    reply.discard()
  })

type HubContext = ResolveContext & { readonly subject: HubSubject }

const ask = async <T>(
  address: string,
  context: HubContext,
  read: (reply: FetchReply) => T | Promise<T>,
): Promise<T> => {
  const attempts = context.attempts ?? 4
  let tokenRefused: Refusal | undefined
  for (let failures = 1; ; failures += 1) {
    let askedMs: number | undefined
    let failure: AgentError
    try {
      const anonymous = tokenRefused !== undefined
      const { reply, withToken } = await follow(address, { ...context, anonymous })
      if (reply.status === 200) return await read(reply)
      const refusal = await refusalOf(reply, { ...context, withToken })
      if (refusesToken(refusal)) {
        tokenRefused = refusal
        continue
      }
      failure = explainRefusal(tokenRefused && refusal.status === 401 ? tokenRefused : refusal)
      if (!isRetryableStatus(reply.status)) throw failure
      askedMs = askedDelayMs(reply.headers, context.clock.now())
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof AgentError) || !['source_unavailable', 'rate_limited'].includes(error.code))
        throw error
      failure = error
    }
    const delayMs = askedMs ?? backoffMs(failures)
    if (failures >= attempts || delayMs > LONGEST_WAIT_MS) throw failure
    await context.clock.sleep(delayMs, context.signal)
  }
}

type Asking = ResolveContext & { readonly subject: HubSubject; readonly anonymous: boolean }

/** Renamed repositories redirect on the hub itself; nowhere else is followed. */
const follow = async (
  address: string,
  context: Asking,
): Promise<{ readonly reply: FetchReply; readonly withToken: boolean }> => {
  let url = new URL(address)
  for (let hops = 0; ; hops += 1) {
    const headers = headersFor(url, { kind: 'hf', anonymous: context.anonymous }, context)
    const reply = await context.fetch({ url: url.href, headers }, context)
    const location = reply.headers['location']
    if (reply.status < 300 || reply.status >= 400 || location === undefined)
      return { reply, withToken: headers['authorization'] !== undefined }
    reply.discard()
    const next = URL.canParse(location, url.href) ? new URL(location, url.href) : undefined
    if (next === undefined || hops >= MOST_REDIRECTS || !isOnHub(next, 'hf', context.endpoints))
      throw new AgentError(
        'redirect_refused',
        `${formatSource(context.subject)}: the hub redirects elsewhere`,
      )
    url = next
  }
}

const refusalOf = async (
  reply: FetchReply,
  context: ResolveContext & { readonly subject: HubSubject; readonly withToken: boolean },
): Promise<Refusal> => ({
  source: formatSource(context.subject).replace(/\/$/, ''),
  reference: context.subject,
  status: reply.status,
  headers: reply.headers,
  text: await replyText(reply),
  withToken: context.withToken,
  fromHub: true,
  endpoints: context.endpoints,
})

const readJson = async (reply: FetchReply, address: string): Promise<unknown> => {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of reply.body) {
    bytes += chunk.byteLength
    if (bytes > MOST_BYTES) throw new AgentError('source_refused', `${address} answers with too much`)
    chunks.push(chunk)
  }
  const text = Buffer.concat(chunks).toString('utf8')
  try {
    return text === '' ? null : JSON.parse(text)
  } catch (error) {
    throw new AgentError('source_unavailable', `${address} does not answer with JSON`, { cause: error })
  }
}
