import { AgentError, problemFrom } from '../contract/errors.ts'
import { headersFor } from '../sources/authorization.ts'
import type { HubKind } from '../sources/endpoints.ts'
import { replyText } from '../sources/fetcher.ts'
import type { ResolveContext } from '../sources/resolved-source.ts'
import { TOKEN_NAMES } from './caused-problem.ts'
import type { TokenFact } from './source-facts.ts'

/** Where a hub tells whose token it was given; anything but 200 and 401 says nothing about the token. */
const WHO_AM_I: Readonly<Record<HubKind, string>> = { hf: '/api/whoami-v2', civitai: '/api/v1/me' }
const HUB_NAMES: Readonly<Record<HubKind, string>> = { hf: 'Hugging Face', civitai: 'Civitai' }

/** Incident A1: whether the hub accepts the token, before anything is rented or fetched with it. Asks once. */
export const askToken = async (kind: HubKind, context: ResolveContext): Promise<TokenFact> => {
  if (!context.tokenFor(kind)) return { state: 'absent' }
  const url = new URL(`${context.endpoints[kind]}${WHO_AM_I[kind]}`)
  const name = TOKEN_NAMES[kind]
  try {
    const headers = headersFor(url, { kind, anonymous: false }, context)
    const reply = await context.fetch({ url: url.href, headers }, context)
    if (reply.status === 401) {
      await replyText(reply)
      const error = new AgentError('bad_token', `${HUB_NAMES[kind]} does not accept the token ${name}`, {
        hint: `Make a new token on ${context.endpoints[kind]} and set ${name} to it.`,
      })
      return { state: 'refused', problem: problemFrom(error, name) }
    }
    reply.discard()
    if (reply.status === 200) return { state: 'accepted' }
    return { state: 'unknown', why: `${HUB_NAMES[kind]} answered HTTP ${reply.status}` }
  } catch (error) {
    context.signal.throwIfAborted()
    if (!(error instanceof AgentError)) throw error
    return { state: 'unknown', why: error.message }
  }
}
