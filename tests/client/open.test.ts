import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:http'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { findProgram } from '../../agent/platform/commands.ts'
import { startAgentctl } from '../support/agentctl.ts'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { runProgram } from '../support/agent-process.ts'
import { freePort } from '../support/comfyui/stand-in.ts'

/** A page that answers with what it was asked, and echoes over a WebSocket. */
const PAGE = join(import.meta.dirname, '../fixtures/bin/echo-page.ts')

const agent = await startAgentForFile()
const { home } = agent
let pagePort: number
beforeAll(async () => {
  pagePort = await freePort()
  const url = `http://127.0.0.1:${pagePort}/`
  const processes = {
    page: {
      kind: 'command',
      restart: 'always',
      command: [process.execPath, PAGE, String(pagePort)],
      ready: { http: url },
    },
    quiet: { kind: 'command', restart: 'always', command: ['sleep', '1000'] },
  }
  writeFileSync(join(home, 'manifest.yaml'), JSON.stringify({ version: 1, name: 'pages', processes }))
  await agent.agentctl(['apply', join(home, 'manifest.yaml')])
})

/** A page that is open, and the cookie of the one browser that was let in. */
type Opened = { port: number; code: string; cookie: string; end: () => Promise<number | null> }

const openPage = async (...more: string[]): Promise<Opened> => {
  const running = startAgentctl(['open', 'page', ...more], { env: { AGENT_HOME: home, HOME: home } })
  onTestFinished(() => {
    running.child.kill('SIGKILL')
  })
  await running.printed('http://127.0.0.1:')
  await running.printed('once')
  const [, authority, code = ''] = /127\.0\.0\.1:(\d+)(\/\S+)/.exec(running.stdout()) ?? []
  const port = Number(authority)
  const welcome = await ask(port, code)
  expect(welcome).toMatchObject({ status: 303, headers: { location: '/' } })
  const cookie = welcome.headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  const end = async (): Promise<number | null> => {
    running.child.kill('SIGINT')
    return (await running.ended).code
  }
  return { port, code, cookie, end }
}

type Answer = { status: number; headers: IncomingHttpHeaders; body: string }

const ask = (
  port: number,
  path: string,
  options: { method?: string; headers?: Readonly<Record<string, string>>; body?: Buffer } = {},
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body } = options
    const asked = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString('utf8'),
        }),
      )
    })
    asked.on('error', reject)
    asked.end(body)
  })

type Echo = { method: string; url: string; headers: IncomingHttpHeaders; bytes: number }

test('the page of a process is on a port of this machine, and learns nothing about who asks', async () => {
  const { port, cookie, end } = await openPage()
  const { status, headers, body } = await ask(port, '/api/view?file=a%2Fb.png', {
    headers: {
      authorization: 'Bearer mine',
      cookie: `session=mine; ${cookie}`,
      referer: `http://127.0.0.1:${port}/`,
      'x-forwarded-for': '10.0.0.1',
      'accept-language': 'de',
    },
  })
  expect(status).toBe(200)
  const echo = JSON.parse(body) as Echo
  expect(echo).toMatchObject({ method: 'GET', url: '/api/view?file=a%2Fb.png' })
  expect(echo.headers).toMatchObject({ host: `127.0.0.1:${pagePort}`, 'accept-language': 'de' })
  for (const name of ['authorization', 'cookie', 'referer', 'x-forwarded-for', 'origin'])
    expect(echo.headers[name]).toBeUndefined()
  expect(headers['set-cookie']).toBeUndefined()
  expect(headers['access-control-allow-origin']).toBeUndefined()
  expect(headers['content-security-policy']).toContain("frame-ancestors 'none'")
  expect(await end()).toBe(130)
})

test('uploads larger than any request of the API pass, with an origin that is the page’s own', async () => {
  const { port, cookie } = await openPage()
  const upload = Buffer.alloc(20_000_000, 'x')
  const { body } = await ask(port, '/upload/image', { method: 'POST', headers: { cookie }, body: upload })
  const echo = JSON.parse(body) as Echo
  expect(echo).toMatchObject({ method: 'POST', bytes: 20_000_000 })
  expect(echo.headers.origin).toBe(`http://127.0.0.1:${pagePort}`)
})

test('statuses and redirects are the page’s, on this machine’s port', async () => {
  const { port, cookie } = await openPage()
  const headers = { cookie }
  expect((await ask(port, '/missing', { headers })).status).toBe(404)
  const redirect = await ask(port, '/redirect', { headers })
  expect(redirect).toMatchObject({ status: 302, headers: { location: '/elsewhere' } })
  expect((await ask(port, '/not-modified', { headers })).status).toBe(304)
})

test('WebSockets of the page pass both ways', async () => {
  const { port, cookie } = await openPage()
  const ws = new WebSocket(`ws://127.0.0.1:${port}/ws?clientId=1`, {
    origin: `http://127.0.0.1:${port}`,
    headers: { cookie },
  })
  const first = await new Promise<string>((resolve, reject) => {
    ws.once('message', (data: Buffer) => resolve(data.toString()))
    ws.once('error', reject)
  })
  expect(JSON.parse(first)).toEqual({ url: '/ws?clientId=1', origin: `http://127.0.0.1:${pagePort}` })
  const echoed = new Promise<Buffer>((resolve) => ws.once('message', (data: Buffer) => resolve(data)))
  const bytes = Buffer.alloc(300_000, 7)
  ws.send(bytes)
  expect((await echoed).equals(bytes)).toBe(true)
  ws.terminate()
})

test.each([
  { title: 'another page', headers: { origin: 'https://evil.test' } },
  { title: 'another page’s picture', headers: { 'sec-fetch-site': 'cross-site' } },
  { title: 'a page that calls itself this machine', headers: { host: 'evil.test' } },
])('requests of $title are refused, with the cookie that the browser adds', async ({ headers }) => {
  const { port, cookie } = await openPage()
  expect(await ask(port, '/', { headers: { ...headers, cookie } })).toMatchObject({
    status: 403,
    body: 'Requests from other pages are refused.\n',
  })
  expect(await statusOfSocket(port, { ...headers, cookie })).toBe(403)
})

const chromium = ['chromium', 'chromium-browser', 'google-chrome']
  .map((name) => findProgram(name, process.env['PATH'] ?? ''))
  .find((path) => path !== undefined)

test.skipIf(chromium === undefined)(
  `a real browser shows the page, its requests and its WebSocket (${chromium ?? 'skipped: there is no Chromium'})`,
  async () => {
    const running = startAgentctl(['open', 'page'], { env: { AGENT_HOME: home, HOME: home } })
    onTestFinished(() => {
      running.child.kill('SIGKILL')
    })
    await running.printed('once')
    const [address = ''] = /http:\/\/127\.0\.0\.1:\d+\/\S+/.exec(running.stdout()) ?? []
    const headless = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      `--user-data-dir=${join(home, 'browser')}`,
    ]
    const argv = [chromium ?? '', ...headless, '--dump-dom', address]
    const { stdout } = await runProgram(argv, { env: { HOME: home } })
    const [, shown = ''] = /<body>(.*)<\/body>/s.exec(stdout) ?? []
    // Chromium itself has sent the cookie of agentctl open, which the page does not see.
    expect(JSON.parse(shown)).toMatchObject({
      url: '/asked',
      cookie: null,
      heard: [expect.stringContaining('/from-the-document'), 'hello'],
    })
  },
)

test('somebody else on this machine is not let in: the code of the address works once', async () => {
  const { port, code, cookie } = await openPage()
  for (const path of ['/', code, '/api/view', '/?agentctl-open=guess'])
    expect(await ask(port, path)).toMatchObject({
      status: 403,
      body: expect.stringContaining('Use the address that agentctl printed') as string,
    })
  expect((await ask(port, '/', { headers: { cookie: `${cookie}x` } })).status).toBe(403)
  expect(await statusOfSocket(port, {})).toBe(403)
  expect(await statusOfSocket(port, { cookie })).toBe(101)
})

/** How a WebSocket is answered. */
const statusOfSocket = (port: number, headers: Readonly<Record<string, string>>): Promise<number> =>
  new Promise((resolve) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers })
    ws.on('error', () => undefined)
    ws.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    ws.on('open', () => {
      resolve(101)
      ws.terminate()
    })
  })

test('--port is taken as it is; one that is in use is refused, as is a process without a page', async () => {
  const wanted = await freePort()
  const { port } = await openPage('--port', String(wanted))
  expect(port).toBe(wanted)
  const again = await agent.agentctl(['open', 'page', '--port', String(wanted)])
  expect(again.code).toBe(2)
  expect(again.stderr).toContain(`cannot listen on 127.0.0.1:${wanted}`)
  expect((await agent.agentctl(['open', 'nobody'])).code).toBe(6)
  expect((await agent.agentctl(['open', 'quiet'])).stderr).toContain('quiet has no web page')
})

test('the page of a process that was stopped says so without a word about the box', async () => {
  const { port, cookie } = await openPage()
  await agent.agentctl(['stop', 'page'])
  const { status, body } = await ask(port, '/', { headers: { cookie } })
  expect(status).toBe(504)
  expect(body).not.toContain(home)
  await agent.agentctl(['start', 'page'])
})
