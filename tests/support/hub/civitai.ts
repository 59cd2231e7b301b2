import type { Exchange } from './hub-model.ts'

/** Answers as civitai.com: a login page for whatever it takes for a browser, JSON errors for the rest. */
export const answerCivitai = ({ request, response, state }: Exchange): void => {
  const url = new URL(request.url ?? '/', 'http://civitai')
  const version = Number(/\/(\d+)$/.exec(url.pathname)?.[1])
  const file = state.files.find((one) => one.civitaiVersion === version)
  const json = (status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  if (/mozilla|chrome|safari|firefox|opera|edge/i.test(request.headers['user-agent'] ?? ''))
    return void response.writeHead(307, { location: '/login' }).end()
  if (url.pathname === '/api/v1/me') {
    const given = request.headers.authorization?.replace(/^Bearer /, '')
    json(given !== undefined && state.tokens.includes(given) ? 200 : 401, { username: 'somebody' })
    return
  }
  const fault = file?.pick('civitai')
  if (fault?.kind === 'answer') return void response.writeHead(fault.status, fault.headers).end(fault.body)
  if (!file) {
    json(404, { error: 'Model not found' })
    return
  }
  const name = file.path.split('/').at(-1) ?? ''
  if (url.pathname.startsWith('/api/v1/model-versions/')) {
    json(200, {
      id: version,
      files: [
        {
          id: 1,
          name,
          sizeKB: file.content.sizeBytes / 1024,
          primary: true,
          hashes: { SHA256: file.content.sha256.toUpperCase() },
        },
      ],
    })
    return
  }
  const token = request.headers.authorization?.replace(/^Bearer /, '')
  if (file.gated && !(token && state.tokens.includes(token))) {
    json(401, {
      error: 'Unauthorized',
      message: 'The creator of this asset requires you to be logged in to download it',
    })
    return
  }
  const disposition = encodeURIComponent(`attachment; filename="${name}"`)
  response.writeHead(307, {
    location: `${state.urls.cdn}/data/${encodeURIComponent(file.path)}?response-content-disposition=${disposition}&Signature=c${state.nextId++}`,
    'cache-control': 'no-store',
  })
  response.end()
}
