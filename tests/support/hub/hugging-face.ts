import { gitSha1 } from './git-sha1.ts'
import { answerHubApi } from './hugging-face-api.ts'
import { COMMIT, type Exchange, type ServedFile } from './hub-model.ts'
import { serveContent } from './serve-content.ts'

const RESOLVE = /^\/(?:(datasets|spaces)\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/

/** Answers as huggingface.co: redirects with the published facts on them, and its own error headers. */
export const answerHub = async (exchange: Exchange): Promise<void> => {
  const { request, response, state } = exchange
  const url = new URL(request.url ?? '/', 'http://hub')
  const small = /^\/api\/resolve-cache\/(.+)$/.exec(decodeURIComponent(url.pathname))?.[1]
  if (small !== undefined) {
    const file = state.files.find((one) => one.path === small)
    // The query carries the ETag: a client that drops it on the redirect does not get the file.
    if (!file || !url.searchParams.has('etag')) {
      refuse(exchange, 404, 'EntryNotFound', 'Entry not found')
      return
    }
    return serveContent(exchange, file)
  }
  if (url.pathname === '/api/whoami-v2') {
    const given = request.headers.authorization?.replace(/^Bearer /, '')
    if (given === undefined || !state.tokens.includes(given))
      refuse(exchange, 401, undefined, 'Invalid credentials in Authorization header')
    else response.writeHead(200, { 'content-type': 'application/json' }).end('{"name":"somebody"}')
    return
  }
  if (/^\/api\/(models|datasets|spaces)\//.test(url.pathname)) {
    answerHubApi(exchange, {
      url,
      refuse: (status, code, message) => refuse(exchange, status, code, message),
    })
    return
  }
  const match = RESOLVE.exec(decodeURIComponent(url.pathname))
  if (!match) {
    refuse(exchange, 404, undefined, 'Sorry, we can not find the page.')
    return
  }
  const [, , repo, revision, path] = match
  const inRepo = state.files.filter((one) => one.repo === repo)
  const file = inRepo.find((one) => one.path === path)

  const token = request.headers.authorization?.replace(/^Bearer /, '')
  const valid = token !== undefined && state.tokens.includes(token)
  const fault = file?.pick('hub')
  if (fault?.kind === 'answer') {
    response.writeHead(fault.status, fault.headers).end(fault.body)
    return
  }
  if ((file ?? inRepo[0])?.gated && !(valid && state.acceptedTokens.includes(token))) {
    if (valid)
      refuse(
        exchange,
        403,
        'GatedRepo',
        `Access to model ${repo} is restricted and you are not in the authorized list.`,
      )
    else refuse(exchange, 401, 'GatedRepo', `Access to model ${repo} is restricted. Please log in.`)
    return
  }
  if (token !== undefined && !valid) {
    refuse(exchange, 401, undefined, 'Invalid credentials in Authorization header')
    return
  }
  if (inRepo.length === 0) {
    if (valid) refuse(exchange, 404, 'RepoNotFound', 'Repository not found')
    else refuse(exchange, 401, 'RepoNotFound', 'Invalid username or password.')
    return
  }
  if (revision !== 'main' && revision !== COMMIT) {
    refuse(exchange, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`)
    return
  }
  if (!file) {
    refuse(exchange, 404, 'EntryNotFound', 'Entry not found', { 'x-repo-commit': COMMIT })
    return
  }
  redirectToData(exchange, file)
}

const redirectToData = ({ response, state }: Exchange, file: ServedFile): void => {
  if (file.small) {
    const etag = gitSha1(file.content)
    response.writeHead(307, {
      'x-repo-commit': COMMIT,
      etag: `"${etag}"`,
      location: `/api/resolve-cache/${encodeURIComponent(file.path)}?etag=${etag}`,
    })
    response.end()
    return
  }
  const published =
    file.published === false
      ? {}
      : {
          'x-linked-size': String(file.content.sizeBytes),
          'x-linked-etag': `${file.weakEtag ? 'W/' : ''}"${file.content.sha256}"`,
        }
  const signature = `s${state.nextId++}`
  const expires = Math.floor(Date.now() / 1000) + (file.signedSeconds ?? 3600)
  const body = 'Found. Redirecting to the content host.'.padEnd(1200, ' ')
  response.writeHead(302, {
    ...published,
    'accept-ranges': 'bytes',
    'x-repo-commit': COMMIT,
    'content-length': String(body.length),
    location: `${state.urls.cdn}/data/${encodeURIComponent(file.path)}?Expires=${expires}&Signature=${signature}`,
    'set-cookie': 'session=hub; Path=/',
  })
  response.end(body)
}

const refuse = (
  { response }: Exchange,
  status: number,
  code: string | undefined,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void => {
  response.writeHead(status, {
    ...headers,
    ...(code ? { 'x-error-code': code } : {}),
    'x-error-message': message,
    'content-type': 'text/plain',
  })
  response.end(message)
}
