import pLimit from 'p-limit'
import { AgentError, problemFrom } from '../contract/errors.ts'
import { askGitRef } from '../sources/ask-git.ts'
import type { GitRef } from '../sources/ask-git.ts'
import { checkRepositoryAccess } from '../sources/check-repository-access.ts'
import type { HubKind } from '../sources/endpoints.ts'
import { planSnapshot } from '../sources/plan-snapshot.ts'
import type { SnapshotRequest } from '../sources/plan-snapshot.ts'
import { resolveAhead } from '../sources/resolve-source.ts'
import type { ResolveContext } from '../sources/resolved-source.ts'
import { askToken } from './ask-token.ts'
import type { RefusedFact, SourceFacts } from './source-facts.ts'

/** What is asked of hubs and git servers. */
export type Questions = {
  /** Files to fetch: `hf://…/path`, `civitai://…`, `https://…`. */
  readonly references: readonly string[]
  /** What programs fetch by themselves: files, or whole repositories as `hf://owner/repo@revision`. */
  readonly access: readonly string[]
  readonly snapshots: readonly SnapshotRequest[]
  readonly gitRefs: readonly GitRef[]
  readonly tokens: readonly HubKind[]
}

/** Questions under way at once: enough for 50 sources in a few seconds, few enough for a hub's rate limit. */
const AT_ONCE = 8

/** The name of a git ref in the facts. */
export const keyOfRef = ({ git, ref }: GitRef): string => `${git} ${ref}`

/**
 * Asks everything once, side by side. What is refused is a fact like any other; a server that asks for patience gets it.
 * @throws the signal's reason
 */
export const askSources = async (questions: Questions, context: ResolveContext): Promise<SourceFacts> => {
  const limit = pLimit(AT_ONCE)
  const askEach = async <T, Fact, Key extends string>(
    wanted: readonly T[],
    how: { readonly key: (one: T) => Key; readonly ask: (one: T) => Promise<Fact> },
  ): Promise<ReadonlyMap<Key, Fact | RefusedFact>> => {
    const distinct = [...new Map(wanted.map((one) => [how.key(one), one]))]
    return new Map(
      await Promise.all(
        distinct.map(([key, one]) =>
          limit(async () => [key, await orRefused(() => how.ask(one), { key, ...context })] as const),
        ),
      ),
    )
  }
  const [tokens, files, access, snapshots, gitRefs] = await Promise.all([
    askEach(questions.tokens, { key: (kind) => kind, ask: (kind) => askToken(kind, context) }),
    askEach([...questions.references, ...questions.access.filter((one) => !isRepository(one))], {
      key: (reference) => reference,
      ask: (reference) => askFile(reference, context),
    }),
    askEach(questions.access.filter(isRepository), {
      key: (reference) => reference,
      ask: (reference) => askRepository(reference, context),
    }),
    askEach(questions.snapshots, {
      key: ({ snapshot }) => snapshot,
      ask: async (one) => ({ state: 'answers' as const, snapshot: await planSnapshot(one, context) }),
    }),
    askEach(questions.gitRefs, {
      key: keyOfRef,
      ask: async (one) => {
        const commit = await askGitRef(one, context)
        return commit === null ? { state: 'unlisted' as const } : { state: 'found' as const, commit }
      },
    }),
  ])
  return { tokens, sources: new Map([...files, ...access]), snapshots, gitRefs }
}

const askFile = async (reference: string, context: ResolveContext) => {
  const { sizeBytes, sha256, gitSha1, reference: name } = await resolveAhead(reference, context)
  return { state: 'answers' as const, reference: name, sizeBytes, sha256, gitSha1 }
}

const askRepository = async (reference: string, context: ResolveContext) => {
  await checkRepositoryAccess(reference, context)
  return { state: 'answers' as const, reference, sizeBytes: null, sha256: null, gitSha1: null }
}

/** `hf://owner/repo@revision` without a path in it. */
const isRepository = (reference: string): boolean =>
  /^hf:\/\/(?:(?:models|datasets|spaces)\/)?[^/@]+\/[^/@]+(?:@[^/]+)?$/.test(reference)

const orRefused = async <Fact>(
  ask: () => Promise<Fact>,
  { key, signal }: { readonly key: string; readonly signal: AbortSignal },
): Promise<Fact | RefusedFact> => {
  try {
    return await ask()
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof AgentError)) throw error
    return { state: 'refused', problem: problemFrom(error, key) }
  }
}
