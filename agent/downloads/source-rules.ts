import type { AgentError } from '../../shared/contract/errors.ts'
import { headersFor } from '../../shared/sources/authorization.ts'
import { isOnHub } from '../../shared/sources/endpoints.ts'
import { type FetchReply, replyText } from '../../shared/sources/fetcher.ts'
import { parseSource } from '../../shared/sources/parse-source.ts'
import { explainRefusal } from '../../shared/sources/refusals.ts'
import type { ResolveDeps, ResolvedSource } from '../../shared/sources/resolved-source.ts'

/** What holds for every request to one source's data. */
export type SourceRules = {
  /** Decides about the token, for this very address. */
  headersFor(url: URL): Readonly<Record<string, string>>
  /** True on the source's own host, false on a content host whose signed addresses come and go. */
  isOwn(url: URL): boolean
  /** Reads a refusing answer to its end and says what it means. */
  explain(url: URL, reply: FetchReply): Promise<AgentError>
}

export const createSourceRules = (source: ResolvedSource, deps: ResolveDeps): SourceRules => {
  const reference = parseSource(source.reference, deps)
  const own = (url: URL): boolean =>
    reference.kind === 'https'
      ? url.origin === new URL(reference.url).origin
      : isOnHub(url, reference.kind, deps.endpoints)
  return {
    headersFor: (url) => headersFor(url, source, deps),
    isOwn: own,
    explain: async (url, reply) =>
      explainRefusal({
        source: source.reference,
        reference,
        status: reply.status,
        headers: reply.headers,
        text: await replyText(reply),
        withToken: headersFor(url, source, deps)['authorization'] !== undefined,
        fromHub: reference.kind !== 'https' && own(url),
        endpoints: deps.endpoints,
      }),
  }
}
