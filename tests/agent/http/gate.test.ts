import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { createConnection } from 'node:net'
import { findProgram } from '../../../agent/platform/commands.ts'
import type { TokenRow } from '../../../shared/contract/records.ts'
import { startAgentForFile } from '../../support/agent-for-file.ts'
import { rawRequest } from '../../support/raw-request.ts'
import { openRaw, statusLine } from '../../support/raw-socket.ts'

const prlimit = findProgram('prlimit', process.env['PATH'] ?? '')

/* A real agentd, asked as no client of ours would ask. */

const agent = await startAgentForFile()
const { home } = agent
const admin = readFileSync(join(home, 'state/local-token'), 'utf8').trim()

const socketPath = () => join(home, 'run/agent.sock')
const bearer = (token = admin) => ({ authorization: `Bearer ${token}` })
const ask = (path: string, options: Parameters<typeof rawRequest>[2] = {}) =>
  rawRequest(socketPath(), path, options)
const post = (path: string, body: string, headers: Readonly<Record<string, string>> = {}) =>
  ask(path, {
    method: 'POST',
    body,
    headers: { ...bearer(), 'content-type': 'application/json', ...headers },
  })
const tokenRows = async () =>
  (JSON.parse((await ask('/v1/tokens', { headers: bearer() })).text) as { tokens: TokenRow[] }).tokens
const createToken = async (token: { name: string; scope: string; expiresAt?: string }) =>
  JSON.parse((await post('/v1/tokens', JSON.stringify(token))).text) as TokenRow & { token: string }
const changes = async () => {
  const { text } = await ask('/v1/events?limit=1000', {
    headers: { ...bearer(), accept: 'application/json' },
  })
  const { events } = JSON.parse(text) as {
    events: { type: string; subject: string; data: Record<string, unknown> }[]
  }
  return events.filter(({ type }) => type === 'api.change')
}
/** How a request with these header lines is answered. */
const raw = (lines: readonly string[], body = '') =>
  statusLine({ path: socketPath() }, `${lines.join('\r\n')}\r\n\r\n${body}`)
const until = async (isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isTrue())) await delay(20)
}

describe('tokens', () => {
  test('T28: an expired token gets the answer of a wrong one, and the log says who came', async () => {
    const { id, token } = await createToken({
      name: 'short',
      scope: 'admin',
      expiresAt: new Date(Date.now() + 1_500).toISOString(),
    })
    // The connection that it was used on ends with it, perhaps in the middle of a request.
    const status = () =>
      ask('/v1/status', { headers: bearer(token) }).then(
        (answer) => answer.status,
        () => 0,
      )
    expect(await status()).toBe(200)
    await until(async () => (await status()) === 401)
    const expired = await ask('/v1/status', { headers: bearer(token) })
    const wrong = await ask('/v1/status', { headers: bearer('000000000000.wrong') })
    expect(expired).toMatchObject({ status: 401, text: wrong.text })
    const refusals = agent
      .log()
      .split('\n')
      .filter((line) => line.includes('without a token that counts'))
    expect(JSON.parse(refusals.find((line) => line.includes(id)) ?? '{}')).toMatchObject({
      source: 'socket',
      claimed: id,
      request: 'GET /v1/status',
    })
    expect(agent.log()).not.toContain(token.split('.')[1])
  })

  test.each(['2020-01-01T00:00:00Z', 'tomorrow', '2999-13-01T00:00:00Z'])(
    'a token that expires at %s is not made',
    async (expiresAt) => {
      expect((await post('/v1/tokens', JSON.stringify({ name: 'x', scope: 'read', expiresAt }))).status).toBe(
        400,
      )
    },
  )

  test.each([
    {
      what: 'a misspelt expiry',
      token: { name: 'x', scope: 'read', expires: '2999-01-01T00:00:00Z' },
      says: 'expires',
    },
    { what: 'a name that would move the cursor', token: { name: 'x\u001b[2J', scope: 'read' }, says: 'name' },
  ])('$what makes no token', async ({ token, says }) => {
    const { status, text } = await post('/v1/tokens', JSON.stringify(token))
    expect(status).toBe(400)
    expect(text).toContain(says)
    expect((await tokenRows()).filter(({ name }) => name.startsWith('x'))).toEqual([])
  })

  test('what is refused says what would do', async () => {
    const bare = await ask('/v1/status')
    expect(bare.headers['www-authenticate']).toBe('Bearer')
    const page = await ask('/v1/status', { headers: { ...bearer(), origin: 'https://example.com' } })
    expect(page.text).toContain('Ask without Origin')
    const plain = await post('/v1/plan', '{}', { 'content-type': 'text/plain' })
    expect(plain.text).toContain('Send Content-Type: application/json.')
  })

  test('a use is on record, and token ls shows until when a token counts', async () => {
    const made = await agent.agentctl(['token', 'create', 'dash', '--expires', '30d', '--json'])
    const { token } = JSON.parse(made.stdout) as { token: TokenRow & { token: string } }
    expect(Date.parse(token.expiresAt ?? '') - Date.now()).toBeGreaterThan(29 * 864e5)
    expect(token.lastUsedAt).toBeNull()
    await ask('/v1/status', { headers: bearer(token.token) })
    expect((await tokenRows()).find(({ id }) => id === token.id)?.lastUsedAt).not.toBeNull()
    expect((await agent.agentctl(['token', 'ls'])).stdout).toMatch(/EXPIRES[\s\S]*dash.*\d{4}-\d\d-\d\d/)
    expect((await agent.agentctl(['token', 'create', 'x', '--expires', 'soon'])).code).toBe(2)
  })

  test('T28: what changes something is in the journal with its token, also when it was refused', async () => {
    const reader = await createToken({ name: 'reader', scope: 'read' })
    const headers = { ...bearer(reader.token), 'content-type': 'application/json' }
    expect((await ask('/v1/runs', { method: 'POST', headers, body: '{"manifest":"x"}' })).status).toBe(403)
    expect((await ask('/v1/plan', { method: 'POST', headers, body: '{"manifest":"x"}' })).status).toBe(422)
    const { data } = (await changes()).find(({ subject }) => subject === 'POST /v1/runs') ?? {}
    expect(data).toEqual({ token: reader.id, name: 'reader', status: 403, source: 'socket' })
    expect((await changes()).map(({ subject }) => subject)).not.toContain('POST /v1/plan')
    await ask('/v1/secrets/AUDITED', {
      method: 'PUT',
      headers: { ...bearer(), 'content-type': 'application/json' },
      body: '{"value":"the-value-itself"}',
    })
    const listed = (await agent.agentctl(['events'])).stdout
    expect(listed).toContain('api.change PUT /v1/secrets/AUDITED')
    expect(listed).not.toContain('the-value-itself')
  })

  test('revoking a token ends its event stream, its followed log and its terminal at once, and no other', async () => {
    await agent.agentctl(['exec', '-d', '--', 'sleep', '600'])
    const { processes } = JSON.parse((await ask('/v1/processes', { headers: bearer() })).text) as {
      processes: { name: string }[]
    }
    const name = processes[0]?.name ?? ''
    const { id, token } = await createToken({ name: 'watcher', scope: 'admin' })
    const follow = (path: string, withToken: string) =>
      openRaw(
        { path: socketPath() },
        `GET ${path} HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer ${withToken}\r\nAccept: text/event-stream\r\n\r\n`,
      )
    const streams = [follow('/v1/events', token), follow(`/v1/processes/${name}/logs?follow=true`, token)]
    const other = follow('/v1/events', admin)
    const terminal = openTerminal(name, token)
    await new Promise((resolve, reject) => {
      terminal.once('open', resolve)
      terminal.once('error', reject)
    })
    for (const stream of [...streams, other]) await until(() => stream.received().includes('200 OK'))
    const cut = new Promise((resolve) => terminal.once('close', resolve))
    expect((await agent.agentctl(['token', 'revoke', id])).code).toBe(0)
    await Promise.all([cut, ...streams.map(({ closed }) => closed)])
    expect(other.socket.destroyed).toBe(false)
    other.socket.destroy()
  })

  test('a token that revokes itself still gets its answer', async () => {
    const { id, token } = await createToken({ name: 'self', scope: 'admin' })
    const answer = await ask(`/v1/tokens/${id}`, { method: 'DELETE', headers: bearer(token) })
    expect(answer).toMatchObject({ status: 200, text: JSON.stringify({ revoked: id }) })
    expect((await ask('/v1/status', { headers: bearer(token) })).status).toBe(401)
  })

  test('a stream ends when its token expires', async () => {
    const expiresAt = new Date(Date.now() + 2_000).toISOString()
    const { token } = await createToken({ name: 'short stream', scope: 'read', expiresAt })
    const stream = openRaw(
      { path: socketPath() },
      `GET /v1/events HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer ${token}\r\nAccept: text/event-stream\r\n\r\n`,
    )
    expect(await stream.closed).toContain('200 OK')
  })
})

const openTerminal = (name: string, token?: string, headers: Readonly<Record<string, string>> = {}) => {
  const ws = new WebSocket(`ws://agent/v1/processes/${name}/terminal`, {
    headers: { ...(token === undefined ? {} : bearer(token)), ...headers },
    createConnection: () => createConnection(socketPath()),
  })
  onTestFinished(() => ws.terminate())
  return ws
}

describe('upgrades', () => {
  const upgrade = (path: string, lines: readonly string[] = []) =>
    raw([
      `GET ${path} HTTP/1.1`,
      'Host: agent',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      ...lines,
    ])

  test.each([
    '/v1/processes/any/terminal',
    '/v1/processes/any/web/ws',
    '/v1/events',
    '/healthz/../v1/events',
  ])('T29: an upgrade of %s without a token is 401, before it is one', async (path) => {
    expect(await upgrade(path)).toBe('HTTP/1.1 401 Unauthorized')
  })

  test('T29: an upgrade passes the same gate as every request', async () => {
    const reader = await createToken({ name: 'onlooker', scope: 'read' })
    const path = '/v1/processes/any/terminal'
    const right = `Authorization: Bearer ${admin}`
    expect(await upgrade(path, [`Authorization: Bearer ${reader.token}`])).toBe('HTTP/1.1 403 Forbidden')
    expect(await upgrade(path, [right, 'Origin: https://evil.test'])).toBe('HTTP/1.1 403 Forbidden')
    expect(await upgrade(path, [right, 'Host: agent'])).toBe('HTTP/1.1 400 Bad Request')
    expect(await upgrade(path, [right])).toBe('HTTP/1.1 404 Not Found')
    expect(await upgrade('/v1/status', [right])).toMatch(/^HTTP\/1.1 400 /)
  })
})

describe('a request that is nearly right', () => {
  test.each([
    { method: 'PUT', path: '/v1/status', allow: 'GET, HEAD' },
    { method: 'GET', path: '/v1/plan', allow: 'POST' },
    { method: 'DELETE', path: '/v1/processes/any/stop', allow: 'POST' },
  ])('$method $path is 405 and told what would do', async ({ method, path, allow }) => {
    const answer = await ask(path, { method, headers: bearer() })
    expect(answer).toMatchObject({ status: 405, headers: { allow } })
    expect(JSON.parse(answer.text)).toMatchObject({
      error: { code: 'method_not_allowed', hint: `It takes ${allow}.` },
    })
  })

  test('a path that is not there is 404 whatever the method', async () => {
    for (const method of ['GET', 'POST'])
      expect(await ask('/v1/nothing', { method, headers: bearer() })).toMatchObject({ status: 404 })
  })

  test.each([
    { path: '/v1/plan', body: { manifest: 'version: 1\nname: x\n', allow_missing: ['x'] } },
    { path: '/v1/runs', body: { manifest: 'version: 1\nname: x\n', dryRun: true } },
    { path: '/v1/sync', body: { sync: 'checkpoints' } },
    { path: '/v1/python/rollback', body: { install: '7' } },
    { path: '/v1/exec', body: { command: ['true'], detach: true } },
  ])('a key that $path does not know is refused, not passed over', async ({ path, body }) => {
    const answer = await post(path, JSON.stringify(body))
    expect(answer).toMatchObject({ status: 400 })
    expect(answer.text).toContain(Object.keys(body).at(-1))
  })
})

describe('T30: requests that no client of ours sends', () => {
  const body = '{"name":"planted","scope":"admin"}'
  const head = () => [
    'POST /v1/tokens HTTP/1.1',
    `Authorization: Bearer ${admin}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]

  test.each([
    { lines: ['Host: evil.com'], status: 403 },
    { lines: ['Host: agent.evil.com'], status: 403 },
    { lines: ['Host: localhost.evil.com:80'], status: 403 },
    { lines: ['Host: agent', 'Host: agent'], status: 400 },
    { lines: ['Host: agent', 'Host: evil.com'], status: 400 },
    { lines: [], status: 400 },
    { lines: ['Host: agent', 'Origin: https://evil.com'], status: 403 },
    { lines: ['Host: agent', 'Origin: null'], status: 403 },
    { lines: ['Host: agent', 'Origin: http://agent'], status: 403 },
    { lines: ['Host: agent', 'Referer: https://evil.com/'], status: 403 },
    { lines: ['Host: agent', 'Sec-Fetch-Site: cross-site'], status: 403 },
    { lines: ['Host: agent', 'Sec-Fetch-Site: same-site'], status: 403 },
    { lines: ['Host: agent', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Site: same-origin'], status: 403 },
    { lines: ['Host: agent', 'Content-Encoding: gzip'], status: 400 },
    { lines: ['Host: agent', 'Content-Encoding: identity, br'], status: 400 },
    { lines: ['Host: agent', 'Transfer-Encoding: chunked'], status: 400 },
    { lines: ['Host: agent', ...Array<string>(101).fill('A: b')], status: 431 },
    { lines: ['Host: agent', ...Array<string>(2_500).fill('A: b')], status: 431 },
    { lines: ['Host: agent', `A: ${'b'.repeat(20_000)}`], status: 431 },
  ])('$lines.0 $lines.1 → $status, and nothing is done', async ({ lines, status }) => {
    expect(await raw([...head(), ...lines], body)).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect((await tokenRows()).map(({ name }) => name)).not.toContain('planted')
  })

  test('an address in the form of a proxy’s is refused', async () => {
    const lines = ['GET http://evil.com/v1/tokens HTTP/1.1', 'Host: agent', `Authorization: Bearer ${admin}`]
    expect(await raw(lines)).toMatch(/^HTTP\/1.1 400 /)
  })

  test.each(['agent', 'AGENT:80', 'localhost', 'localhost:8443', '127.0.0.1:1', '[::1]:1', '203.0.113.7'])(
    'the Host %s is the box’s own',
    async (host) => {
      expect(await raw(['GET /healthz HTTP/1.1', `Host: ${host}`])).toBe('HTTP/1.1 200 OK')
    },
  )
})

describe('T41: too much of everything', () => {
  test.each([
    {
      what: '10 MB of JSON',
      body: () => JSON.stringify({ name: 'x'.repeat(10_000_000), scope: 'read' }),
      status: 413,
    },
    { what: 'JSON a million levels deep', body: () => '['.repeat(500_000) + ']'.repeat(500_000) },
    { what: 'JSON 65 levels deep', body: () => '['.repeat(65) + ']'.repeat(65) },
    { what: 'a list of 300,000 objects', body: () => `[${'{},'.repeat(300_000)}{}]` },
    { what: 'an unfinished string', body: () => '{"name":"\\' },
    { what: 'no JSON', body: () => '\u0000\u0001' },
    { what: 'a gzip bomb', body: () => gzipSync(Buffer.alloc(50_000_000)).toString('latin1') },
  ])('$what is refused, and the agent goes on', async ({ body, status = 400 }) => {
    const answer = await post('/v1/tokens', body()).catch((error: unknown) => error)
    // One that is much too long is cut off while it is being sent.
    if (!(answer instanceof Error)) expect(answer).toMatchObject({ status })
    expect((await ask('/v1/status', { headers: bearer() })).status).toBe(200)
  })

  test('keys that reach into prototypes change nothing', async () => {
    const reaching = '"__proto__":{"scope":"admin"},"constructor":{"prototype":{"scope":"admin"}}'
    const { status } = await post('/v1/tokens', `{"name":"reaching",${reaching}}`)
    expect(status).toBe(400)
    expect((await tokenRows()).filter(({ name }) => name === 'reaching')).toEqual([])
    expect((await post('/v1/tokens', '{"name":"after"}')).status).toBe(400)
  })

  test('32 streams are open at once and no more, and one that ends makes room', async () => {
    const open = () =>
      openRaw(
        { path: socketPath() },
        `GET /v1/events HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer ${admin}\r\nAccept: text/event-stream\r\n\r\n`,
      )
    const streams = Array.from({ length: 32 }, open)
    for (const stream of streams) await until(() => stream.received().includes('200 OK'))
    const refused = open()
    await until(() => refused.received().includes('\r\n\r\n'))
    expect(refused.received()).toContain('HTTP/1.1 503 ')
    refused.socket.destroy()
    expect((await ask('/v1/status', { headers: bearer() })).status).toBe(200)
    for (const { socket } of streams) socket.destroy()
    await until(async () => {
      const next = open()
      await until(() => next.received().includes('\r\n'))
      next.socket.destroy()
      return next.received().includes('200 OK')
    })
  })
})

test.skipIf(prlimit === undefined)(
  `T43: without a free file descriptor connections are shed, and afterwards all is well (${prlimit ?? 'no prlimit here'})`,
  async () => {
    const pid = String(agent.child.pid)
    const limitTo = (files: number) => execFileSync(prlimit ?? '', ['--pid', pid, `--nofile=${files}:`])
    const open = readdirSync(`/proc/${pid}/fd`).length
    limitTo(open + 10)
    const held = Array.from({ length: 100 }, () =>
      openRaw({ path: socketPath() }, 'GET /healthz HTTP/1.1\r\n'),
    )
    // Those that are not taken are closed, or wait unheard.
    await until(() => readdirSync(`/proc/${pid}/fd`).length >= open + 9)
    for (const { socket } of held) socket.destroy()
    await until(async () => {
      const answer = await ask('/v1/status', { headers: bearer() }).catch(() => undefined)
      return answer?.status === 200
    })
    expect(agent.child.exitCode).toBeNull()
    limitTo(1_024)
  },
)

// Last: afterwards the agent hears no wrong token for a while.
test('T33: a thousand wrong tokens are throttled, and a right one is served all the while', async () => {
  const statuses = new Map<number, number>()
  const wrong = async (): Promise<void> => {
    const { status } = await ask('/v1/status', { headers: bearer('000000000000.wrong') })
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  const right: number[] = []
  for (let round = 0; round < 20; round += 1) {
    const failures = Array.from({ length: 50 }, wrong)
    right.push((await ask('/v1/status', { headers: bearer() })).status)
    await Promise.all(failures)
  }
  expect(right).toEqual(Array(20).fill(200))
  expect([...statuses.keys()].toSorted()).toEqual([401, 429])
  expect(statuses.get(429)).toBeGreaterThan(900)
  const lines = agent
    .log()
    .split('\n')
    .filter((line) => line.includes('without a token that counts'))
  expect(lines.length).toBeLessThan(100)
})
