import { AgentError } from '../contract/errors.ts'
import { checkAddress } from './address-policy.ts'
import { headersFor } from './authorization.ts'
import { civitaiHash } from './civitai-hash.ts'
import { type Endpoints, isOnHub } from './endpoints.ts'
import { type FetchReply, replyText } from './fetcher.ts'
import { fileNameFrom } from './file-name.ts'
import { isModelName } from './model-names.ts'
import { formatSource, type SourceReference } from './parse-source.ts'
import { type Answer, type PublishedFacts, readAnswers } from './published-facts.ts'
import { isRedirect, redirectTarget } from './redirect-target.ts'
import { explainRefusal, isPassing, type Refusal } from './refusals.ts'
import type { ResolveContext, ResolvedSource } from './resolved-source.ts'
import { askedDelayMs, isRetryableStatus } from './retry-after.ts'
import { signedUntil } from './signed-until.ts'

export type Asked =
  | { readonly state: 'found'; readonly source: Omit<ResolvedSource, 'anonymous'> }
  | {
      readonly state: 'refused'
      readonly error: unknown
      readonly refusal?: Refusal
      readonly mayPass: boolean
      readonly askedMs?: number | undefined
    }

const MOST_HOPS = 10

type AskContext = ResolveContext & { readonly anonymous: boolean }

/** Asks once: follows the redirects by hand and says what was found, or why not and whether that may pass. */
export const askSource = async (reference: SourceReference, context: AskContext): Promise<Asked> => {
  const start = firstUrl(reference, context.endpoints)
  const source = formatSource(reference)
  let url = new URL(start)
  const answers: Answer[] = []
  for (;;) {
    checkAddress(url, context)
    const onHub = reference.kind !== 'https' && isOnHub(url, reference.kind, context.endpoints)
    const headers = headersFor(url, { kind: reference.kind, anonymous: context.anonymous }, context)
    let reply: FetchReply
    try {
      reply = await context.fetch({ url: url.href, headers: { ...headers, range: 'bytes=0-0' } }, context)
    } catch (error) {
      context.signal.throwIfAborted()
      return { state: 'refused', error: named(error, source), mayPass: isCode(error, 'source_unavailable') }
    }
    answers.push({ url, reply, onHub })
    const next = isRedirect(reply) ? redirectTarget(url, reply, source) : undefined
    if (next !== undefined && isLogin(reference, next)) {
      reply.discard()
      return refused(await refusalOf({ reference, source, reply, headers, onHub, context }), context)
    }
    if (next === undefined && !(reply.status < 300 || isEmptyFile(reply)))
      return refused(await refusalOf({ reference, source, reply, headers, onHub, context }), context)
    reply.discard()

    const facts = readAnswers(reference, answers)
    // What the hub published is enough; the content host is asked by the transfer itself.
    const known =
      next !== undefined &&
      onHub &&
      facts.sizeBytes !== null &&
      isContent(next, { reference, facts, context })
    if (next === undefined || known) {
      const final = known ? next : url
      checkAddress(final, context)
      if (!known) refuseWebPage(source, final, reply)
      const hashed =
        reference.kind === 'civitai' ? await withCivitaiHash(reference, facts, final, reply, context) : facts
      return {
        state: 'found',
        source: {
          ...hashed,
          reference: source,
          kind: reference.kind,
          dataUrl: final.href,
          expiresAt: signedUntil(final),
          acceptsRanges: known ? null : reply.status === 206,
          fileName: fileNameFrom({ original: start, final: final.href }, known ? {} : reply.headers),
          contentType: known ? null : (reply.headers['content-type'] ?? null),
        },
      }
    }
    if (answers.length > MOST_HOPS)
      throw new AgentError('redirect_refused', `${source} redirects more than ${MOST_HOPS} times`)
    url = next
  }
}

/** A model that arrives as a web page is the page that asks to log in. */
const refuseWebPage = (source: string, url: URL, reply: FetchReply): void => {
  const name = fileNameFrom({ original: url.href, final: url.href }, reply.headers) ?? ''
  if (isModelName(name) && /^text\/html\b/i.test(reply.headers['content-type'] ?? ''))
    throw new AgentError('login_required', `${source}: answers with a web page instead of ${name}`)
}

const firstUrl = (reference: SourceReference, endpoints: Endpoints): string => {
  switch (reference.kind) {
    case 'hf': {
      const type = reference.repoType === 'model' ? '' : `${reference.repoType}s/`
      const path = reference.path.split('/').map(encodeURIComponent).join('/')
      return `${endpoints.hf}/${type}${reference.repo}/resolve/${encodeURIComponent(reference.revision)}/${path}`
    }
    case 'civitai':
      return `${endpoints.civitai}/api/download/models/${reference.versionId}${reference.query && `?${reference.query}`}`
    case 'https':
      return reference.url
  }
}

/** `bytes=0-0` of an empty file cannot be satisfied; the answer then says that there are 0 bytes. */
const isEmptyFile = (reply: FetchReply): boolean =>
  reply.status === 416 && /^bytes \*\/0$/.test(reply.headers['content-range'] ?? '')

/**
 * Whether a hub's redirect leads to the bytes themselves: to another host, or to a path of its own that is no question
 * to the hub any more (a renamed repository leads to another `resolve`, a small file to `/api/resolve-cache`).
 */
const isContent = (
  url: URL,
  known: {
    readonly reference: SourceReference
    readonly facts: PublishedFacts
    readonly context: AskContext
  },
): boolean => {
  const { reference, facts, context } = known
  if (reference.kind === 'https' || !isOnHub(url, reference.kind, context.endpoints)) return true
  return facts.sha256 !== null && !/\/(resolve|api)\//.test(url.pathname)
}

const isLogin = (reference: SourceReference, next: URL): boolean =>
  reference.kind === 'civitai' && /^\/login\b/.test(next.pathname)

const refusalOf = async (parts: {
  readonly reference: SourceReference
  readonly source: string
  readonly reply: FetchReply
  readonly headers: Readonly<Record<string, string>>
  readonly onHub: boolean
  readonly context: AskContext
}): Promise<Refusal> => ({
  source: parts.source,
  reference: parts.reference,
  status: parts.reply.status,
  headers: parts.reply.headers,
  text: isRedirect(parts.reply) ? '' : await replyText(parts.reply),
  withToken: parts.headers['authorization'] !== undefined,
  fromHub: parts.onHub,
  endpoints: parts.context.endpoints,
})

const refused = (refusal: Refusal, context: AskContext): Asked => ({
  state: 'refused',
  error: explainRefusal(refusal),
  refusal,
  mayPass: isRetryableStatus(refusal.status) || isPassing(refusal),
  askedMs: askedDelayMs(refusal.headers, context.clock.now()),
})

const withCivitaiHash = async (
  reference: Extract<SourceReference, { kind: 'civitai' }>,
  facts: PublishedFacts,
  final: URL,
  reply: FetchReply,
  context: AskContext,
): Promise<PublishedFacts> => {
  const fileName = fileNameFrom({ original: final.href, final: final.href }, reply.headers)
  return { ...facts, sha256: await civitaiHash(reference, fileName, context) }
}

const isCode = (error: unknown, code: string): boolean => error instanceof AgentError && error.code === code

/** A failure of the connection, told with the source it belongs to. */
const named = (error: unknown, source: string): unknown =>
  error instanceof AgentError
    ? new AgentError(error.code, `${source}: ${error.message}`, { hint: error.hint, cause: error })
    : error
