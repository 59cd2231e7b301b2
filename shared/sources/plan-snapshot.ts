import { z } from 'zod'
import { AgentError } from '../contract/errors.ts'
import { askHub, checkHub, type HubSubject } from './ask-hub.ts'
import { isOnHub } from './endpoints.ts'
import { isWanted } from './match-names.ts'
import { isPickleName } from './model-names.ts'
import { parseRepository } from './check-repository-access.ts'
import { formatSource, parseSource, type RepoType } from './parse-source.ts'
import { resolveSource } from './resolve-source.ts'
import type { ResolveContext } from './resolved-source.ts'

/** What a manifest wants of a repository. */
export type SnapshotRequest = {
  /** `hf://[datasets/|spaces/]owner/repo[@revision]` */
  readonly snapshot: string
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

export type SnapshotFile = {
  /** In the repository, with slashes; safe to be joined to a folder. */
  readonly path: string
  readonly sizeBytes: number
  /** Of files in large-file storage; the others have a git hash only. */
  readonly sha256: string | null
  readonly gitSha1: string | null
  /** Its canonical spelling, at the commit. */
  readonly source: string
}

/** The files of a repository at one commit: whatever its branch does meanwhile, they stay these. */
export type Snapshot = {
  /** What was asked for. */
  readonly request: SnapshotRequest
  /** `hf://owner/repo@commit`: the name of its row. */
  readonly to: string
  readonly repoType: RepoType
  readonly repo: string
  /** As the manifest names it. */
  readonly revision: string
  readonly commit: string
  readonly files: readonly SnapshotFile[]
  readonly sizeBytes: number
  /** Those of the files that can run code when they are loaded. */
  readonly pickles: readonly string[]
}

const Revision = z.object({ sha: z.string().regex(/^[0-9a-f]{40}$/) })
const Entries = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    size: z.number().int().nonnegative().optional(),
    oid: z.string().optional(),
    lfs: z.object({ oid: z.string(), size: z.number().int().nonnegative() }).nullish(),
  }),
)

/** A thousand entries a page: more than any repository of models has. */
const MOST_PAGES = 200

/**
 * Finds the commit, checks that the token may read the files (a gated repository shows its listing to anybody), and
 * lists what is wanted of them. Nothing is fetched.
 * @throws AgentError bad_request, gated, bad_token, repository_not_found, revision_not_found, source_not_found (nothing
 * matches), rate_limited, source_unavailable, source_refused, unsafe_path; the signal's reason
 */
export const planSnapshot = async (request: SnapshotRequest, context: ResolveContext): Promise<Snapshot> => {
  const subject = parseRepository(request.snapshot)
  const asking = { ...context, subject }
  const api = `${context.endpoints.hf}/api/${subject.repoType}s/${subject.repo}`
  const commit = /^[0-9a-f]{40}$/.test(subject.revision) ? subject.revision : await findCommit(api, asking)
  const access = await orUnknown(checkHub(`${api}/auth-check`, asking))

  const files = (await listFiles(`${api}/tree/${commit}?recursive=true`, asking)).flatMap((entry) => {
    if (entry.type !== 'file' || !isWanted(entry.path, request)) return []
    return toFile(entry, { ...subject, revision: commit })
  })
  if (files.length === 0)
    throw new AgentError('source_not_found', `${request.snapshot} has no file that is wanted`, {
      hint: 'Check include and exclude.',
    })
  // Without that question a file itself tells whether it may be read.
  if (access === 'unknown' && files[0] !== undefined) await resolveSource(files[0].source, context)
  const { snapshot, include, exclude } = request
  return {
    request: { snapshot, include, exclude },
    to: repositoryName({ ...subject, revision: commit }),
    repoType: subject.repoType,
    repo: subject.repo,
    revision: subject.revision,
    commit,
    files,
    sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
    pickles: files.map((file) => file.path).filter(isPickleName),
  }
}

const findCommit = async (
  api: string,
  asking: ResolveContext & { readonly subject: HubSubject },
): Promise<string> => {
  const { revision } = asking.subject
  const asked = await orUnknown(askHub(`${api}/revision/${encodeURIComponent(revision)}`, asking))
  if (asked !== 'unknown') return read(Revision, asked.json).sha
  if (revision !== 'main')
    throw new AgentError('revision_not_found', `${api} does not tell what ${revision} is`, {
      hint: 'Give the commit itself, of 40 digits.',
    })
  return read(Revision, (await askHub(api, asking)).json).sha
}

/** A mirror knows some of the hub's questions only; to the others it says 404 without the hub's own reason. */
const orUnknown = async <T>(asked: Promise<T>): Promise<T | 'unknown'> => {
  try {
    return await asked
  } catch (error) {
    if (error instanceof AgentError && error.code === 'source_not_found') return 'unknown'
    throw error
  }
}

const repositoryName = (subject: HubSubject): string =>
  formatSource({ ...subject, path: '' }).replace(/\/$/, '')

const listFiles = async (
  first: string,
  context: ResolveContext & { readonly subject: HubSubject },
): Promise<z.infer<typeof Entries>> => {
  const entries: z.infer<typeof Entries> = []
  let next: string | undefined = first
  for (let page = 0; next !== undefined; page += 1) {
    if (page >= MOST_PAGES)
      throw new AgentError('source_refused', `${formatSource(context.subject)}: its listing does not end`)
    const { json, headers } = await askHub(next, context)
    entries.push(...read(Entries, json))
    next = nextPage(headers['link'], { address: next, context })
  }
  return entries
}

const nextPage = (
  link: string | undefined,
  { address, context }: { readonly address: string; readonly context: ResolveContext },
): string | undefined => {
  const target = /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(link ?? '')?.[1]
  if (target === undefined || !URL.canParse(target, address)) return undefined
  const url = new URL(target, address)
  if (!isOnHub(url, 'hf', context.endpoints))
    throw new AgentError('redirect_refused', `the listing goes on at ${url.origin}, which is not the hub`)
  return url.href
}

const toFile = (entry: z.infer<typeof Entries>[number], subject: HubSubject): SnapshotFile => {
  const source = formatSource({ ...subject, path: entry.path })
  // Refuses paths that lead out of the folder they will be joined to.
  parseSource(source)
  const sha256 = entry.lfs && /^[0-9a-f]{64}$/.test(entry.lfs.oid) ? entry.lfs.oid : null
  const gitSha1 = !entry.lfs && /^[0-9a-f]{40}$/.test(entry.oid ?? '') ? (entry.oid ?? null) : null
  const sizeBytes = entry.lfs?.size ?? entry.size
  if (sizeBytes === undefined || (sha256 === null && gitSha1 === null))
    throw new AgentError('source_refused', `${source}: the hub lists it without a size or a hash`)
  return { path: entry.path, sizeBytes, sha256, gitSha1, source }
}

const read = <T>(schema: z.ZodType<T>, json: unknown): T => {
  const parsed = schema.safeParse(json)
  if (!parsed.success)
    throw new AgentError('source_refused', 'the hub answers in a form that is not known', {
      cause: parsed.error,
    })
  return parsed.data
}
