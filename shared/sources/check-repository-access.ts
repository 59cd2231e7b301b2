import { AgentError } from '../contract/errors.ts'
import { checkHub, type HubSubject } from './ask-hub.ts'
import { parseSource } from './parse-source.ts'
import type { ResolveContext } from './resolved-source.ts'

/**
 * Whether the token may read the files of `hf://owner/repo`; the page of a gated repository is open to everybody.
 * @throws AgentError bad_request, gated, bad_token, repository_not_found, rate_limited, source_unavailable, …
 */
export const checkRepositoryAccess = async (reference: string, context: ResolveContext): Promise<void> => {
  const subject = parseRepository(reference)
  const api = `${context.endpoints.hf}/api/${subject.repoType}s/${subject.repo}`
  await checkHub(`${api}/auth-check`, { ...context, subject })
}

/** Reads `hf://[datasets/|spaces/]owner/repo[@revision]`. @throws AgentError bad_request, unsafe_path */
export const parseRepository = (text: string): HubSubject => {
  // A path is added so that a repository is read by the rules of a file in it.
  const parsed = parseSource(`${text}/any`)
  if (parsed.kind !== 'hf' || parsed.path !== 'any')
    throw new AgentError('bad_request', `${JSON.stringify(text)} is not a repository`, {
      hint: 'Write hf://owner/repo@revision.',
    })
  return { ...parsed, path: '' }
}
