import { AgentError } from '../contract/errors.ts'
import { DEFAULT_ENDPOINTS, type Endpoints } from './endpoints.ts'

export type RepoType = 'model' | 'dataset' | 'space'

/** Where a file comes from, as its author wrote it; `formatSource` gives its one canonical spelling. */
export type SourceReference =
  | {
      readonly kind: 'hf'
      readonly repoType: RepoType
      readonly repo: string
      readonly revision: string
      readonly path: string
    }
  | {
      readonly kind: 'civitai'
      readonly versionId: string
      /** The parts of the query that choose a file, in a fixed order: `type=Model&fileId=7`. */
      readonly query: string
    }
  | {
      readonly kind: 'https'
      /** May hold a token in its query: never shown, never stored. */
      readonly url: string
    }

/**
 * Reads `hf://owner/repo@revision/path` (also `hf://datasets/…`, `hf://spaces/…`), `civitai://versions/ID?fileId=N`
 * or an http(s) address. Addresses of a file on Hugging Face or Civitai become that hub's kind, so that they get its
 * token, its hash and its errors.
 * @throws AgentError bad_request, unsafe_path
 */
export const parseSource = (
  text: string,
  context: { readonly endpoints?: Endpoints } = {},
): SourceReference => {
  if (text.startsWith('hf://')) return parseHub(text)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'civitai:') return parseCivitai(url, text)
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') throw notASource(text)
  if (url.username || url.password)
    throw new AgentError('bad_request', `${url.origin}${url.pathname} holds a user or a password`, {
      hint: 'Take it out of the address; give a token as a secret.',
    })
  return parseHubAddress(url, context.endpoints ?? DEFAULT_ENDPOINTS) ?? { kind: 'https', url: url.href }
}

/** The canonical spelling, without any secret: the same file has the same one whatever token was in its address. */
export const formatSource = (reference: SourceReference): string => {
  switch (reference.kind) {
    case 'hf': {
      const type = reference.repoType === 'model' ? '' : `${reference.repoType}s/`
      return `hf://${type}${reference.repo}@${formatRevision(reference.revision)}/${reference.path}`
    }
    case 'civitai':
      return `civitai://versions/${reference.versionId}${reference.query && `?${reference.query}`}`
    case 'https':
      return withoutSecrets(reference.url)
  }
}

/** A slash of a branch's name is encoded, so that it is not read as the beginning of the path. */
const formatRevision = (revision: string): string =>
  OWN_REVISION.test(revision) ? revision : revision.replaceAll('%', '%25').replaceAll('/', '%2F')

/** Revisions in which the hub itself uses slashes. */
const OWN_REVISION = /^refs\/(?:pr|convert)\/[^/\s]+$/

const notASource = (text: string): AgentError =>
  new AgentError('bad_request', `${JSON.stringify(text.replace(/\?.*/s, ''))} is not a source`, {
    hint: 'Write hf://owner/repo@revision/path, civitai://versions/ID or https://…',
  })

/** A revision may hold slashes where the hub itself uses them: refs/pr/3, refs/convert/parquet. */
const HUB =
  /^hf:\/\/(?:(models|datasets|spaces)\/)?([^/@\s]+(?:\/[^/@\s]+)?)(?:@(refs\/(?:pr|convert)\/[^/\s]+|[^/\s]+))?\/(.+)$/

const parseHub = (text: string): SourceReference => {
  const [, type, repo, revision = 'main', path] = HUB.exec(text) ?? []
  if (repo === undefined || path === undefined) throw notASource(text)
  return hubReference({ type, repo, revision: decode(revision), path })
}

/** `/[datasets/|spaces/]owner/repo/resolve/REVISION/PATH`; `blob` is what the browser shows for the same file. */
const HUB_PATH = /^\/(?:(datasets|spaces)\/)?([^/]+(?:\/[^/]+)?)\/(?:resolve|blob)\/([^/]+)\/(.+)$/

const CIVITAI_PATH = /^\/api\/download\/models\/(\d+)$/

const parseHubAddress = (url: URL, endpoints: Endpoints): SourceReference | undefined => {
  const isOn = (kind: keyof Endpoints): string | undefined =>
    [endpoints[kind], DEFAULT_ENDPOINTS[kind]].find((base) => url.href.startsWith(`${base}/`))
  const hub = isOn('hf')
  if (hub !== undefined) {
    const [, type, repo, revision, path] =
      HUB_PATH.exec(url.href.slice(hub.length).replace(/[?#].*/s, '')) ?? []
    if (repo !== undefined && revision !== undefined && path !== undefined)
      return hubReference({ type, repo: decode(repo), revision: decode(revision), path: decode(path) })
  }
  const civitai = isOn('civitai')
  const version =
    civitai && CIVITAI_PATH.exec(url.pathname.slice(new URL(civitai).pathname.replace(/\/$/, '').length))
  return version ? { kind: 'civitai', versionId: version[1] ?? '', query: fileQuery(url) } : undefined
}

const hubReference = (parts: {
  readonly type: string | undefined
  readonly repo: string
  readonly revision: string
  readonly path: string
}): SourceReference => {
  const bad = parts.path
    .split('/')
    .find((part) => part === '' || part === '.' || part === '..' || /^[a-z]:/i.test(part))
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
  if (bad !== undefined || /[\u0000-\u001f\u007f\\]/.test(parts.path))
    throw new AgentError('unsafe_path', `${JSON.stringify(parts.path)} is not a path in ${parts.repo}`)
  if (/(^|\/)\.{1,2}(\/|$)/.test(`${parts.repo}/${parts.revision}`))
    throw new AgentError('unsafe_path', `${parts.repo}@${parts.revision} is not a repository and revision`)
  const repoType = parts.type === 'datasets' ? 'dataset' : parts.type === 'spaces' ? 'space' : 'model'
  return { kind: 'hf', repoType, repo: parts.repo, revision: parts.revision, path: parts.path }
}

const parseCivitai = (url: URL, text: string): SourceReference => {
  const versionId = url.host === 'versions' && /^\/(\d+)$/.exec(url.pathname)?.[1]
  if (!versionId) throw notASource(text)
  return { kind: 'civitai', versionId, query: fileQuery(url) }
}

/** What Civitai's download address knows for choosing one of a version's files. */
const FILE_QUERY = ['type', 'format', 'size', 'fp', 'quantType', 'fileId'] as const

const fileQuery = (url: URL): string => {
  const chosen = new URLSearchParams()
  for (const name of FILE_QUERY) {
    const value = url.searchParams.get(name)
    if (value) chosen.set(name, value)
  }
  return chosen.toString()
}

const SECRET_QUERY =
  /^(token|access_token|auth|api[-_]?key|key|code|sig|signature|policy|key-pair-id|expires|x-amz-.*|x-goog-.*|se|sp|sv|sr|st|skoid|sktid)$/i

const withoutSecrets = (text: string): string => {
  const url = new URL(text)
  for (const name of [...url.searchParams.keys()]) if (SECRET_QUERY.test(name)) url.searchParams.delete(name)
  url.hash = ''
  return url.href
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
