import { askSource } from './ask-source.ts'
import { parseSource } from './parse-source.ts'
import { explainRefusal, refusesToken, type Refusal } from './refusals.ts'
import type { ResolveContext, ResolvedSource } from './resolved-source.ts'
import { backoffMs, LONGEST_WAIT_MS } from './retry-after.ts'

/**
 * Finds what a source is and where its bytes are, with one small ranged request to each hop. Redirects are followed by
 * hand: what the hub publishes (size, hash, commit) is on its redirect, and the token is decided at every hop.
 * A failure that may pass (408, 429, 5xx, a broken connection) is tried again after what the server asks for.
 * @throws AgentError gated, login_required, bad_token, repository_not_found, source_not_found, revision_not_found,
 * repository_disabled, archived, rate_limited, source_unavailable, source_refused, forbidden_address,
 * redirect_refused, bad_request, unsafe_path; the signal's reason after an abort
 */
export const resolveSource = async (reference: string, context: ResolveContext): Promise<ResolvedSource> => {
  const parsed = parseSource(reference, context)
  const attempts = context.attempts ?? 4
  let tokenRefused: Refusal | undefined
  for (let failures = 1; ; failures += 1) {
    const anonymous = tokenRefused !== undefined
    const asked = await askSource(parsed, { ...context, anonymous })
    if (asked.state === 'found') return { ...asked.source, anonymous }
    if (asked.refusal && refusesToken(asked.refusal)) {
      // A token that is no good must not hide a public file; when that fails as well, the token is to blame.
      tokenRefused = asked.refusal
      continue
    }
    const delayMs = asked.askedMs ?? backoffMs(failures)
    if (!asked.mayPass || failures >= attempts || delayMs > LONGEST_WAIT_MS)
      // Without the token a plain 401 says less than the refusal of the token did.
      throw tokenRefused && asked.refusal?.status === 401 ? explainRefusal(tokenRefused) : asked.error
    await context.clock.sleep(delayMs, context.signal)
  }
}

/**
 * The same for a plan: what it found is kept for the transfer that may follow.
 * @throws AgentError as resolveSource
 */
export const resolveAhead = async (reference: string, context: ResolveContext): Promise<ResolvedSource> => {
  const source = await resolveSource(reference, context)
  context.recent?.keep(reference, source)
  return source
}
