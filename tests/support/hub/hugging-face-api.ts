import { gitSha1 } from './git-sha1.ts'
import { COMMIT, type Exchange, type ServedFile } from './hub-model.ts'

/** Entries of one page of a listing: few, so that a test meets the second page. */
const PAGE = 3

/** Answers what the hub's API is asked for: the commit of a revision, whether a token may read, the list of files. */
export const answerHubApi = (
  { request, response, state }: Exchange,
  context: {
    readonly url: URL
    readonly refuse: (status: number, code: string | undefined, message: string) => void
  },
): void => {
  const { url, refuse } = context
  const json = (body: unknown, headers: Readonly<Record<string, string>> = {}): void => {
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
  }
  const [, , , owner = '', name = '', question, rev = ''] = url.pathname.split('/')
  const repo = `${owner}/${name}`
  const revision = decodeURIComponent(rev)
  const files = state.files.filter((file) => file.repo === repo)
  const token = request.headers.authorization?.replace(/^Bearer /, '')
  const valid = token !== undefined && state.tokens.includes(token)
  if (token !== undefined && !valid) {
    refuse(401, undefined, 'Invalid credentials in Authorization header')
    return
  }
  if (files.length === 0) {
    refuse(valid ? 404 : 401, 'RepoNotFound', 'Repository not found')
    return
  }
  if (question === undefined) {
    json({ id: repo, sha: COMMIT })
    return
  }
  if (state.unknownQuestions.includes(question)) {
    refuse(404, undefined, 'Sorry, we can not find the page.')
    return
  }
  if (question === 'auth-check') {
    if (files.some((file) => file.gated) && !(valid && state.acceptedTokens.includes(token)))
      refuse(valid ? 403 : 401, 'GatedRepo', `Access to model ${repo} is restricted.`)
    // The status is the answer; no client reads the text.
    else response.writeHead(200, { 'content-type': 'text/plain' }).end('OK')
    return
  }
  if (revision !== 'main' && revision !== COMMIT) {
    refuse(404, 'RevisionNotFound', `Invalid rev id: ${revision}`)
    return
  }
  // The listing of a gated repository is open to everybody, as on the real hub.
  if (question === 'revision') {
    json({ id: repo, sha: COMMIT })
    return
  }
  if (question !== 'tree') {
    refuse(404, undefined, 'Sorry, we can not find the page.')
    return
  }
  const start = Number(url.searchParams.get('cursor') ?? 0)
  const entries = [
    { type: 'directory', oid: 'd'.repeat(40), size: 0, path: 'folder' },
    ...files.map((file) => toEntry(file)),
  ]
  const next = new URL(url.pathname + url.search, state.urls.hub)
  next.searchParams.set('cursor', String(start + PAGE))
  const hasMore = start + PAGE < entries.length
  json(entries.slice(start, start + PAGE), hasMore ? { link: `<${next.href}>; rel="next"` } : {})
}

const toEntry = (file: ServedFile) => {
  const { content, path } = file
  const common = { type: 'file', size: content.sizeBytes, path }
  return file.small
    ? { ...common, oid: gitSha1(content) }
    : {
        ...common,
        oid: 'a'.repeat(40),
        lfs: { oid: content.sha256, size: content.sizeBytes, pointerSize: 134 },
        xetHash: '***',
      }
}
