import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { runProgram } from '../support/agent-process.ts'
import { rawRequest } from '../support/raw-request.ts'
import { AGENTD } from '../support/programs.ts'

const agent = await startAgentForFile()
const { home } = agent
const admin = readFileSync(join(home, 'state/local-token'), 'utf8').trim()
let reader: string
beforeAll(async () => {
  const paired = await agentd('pair', '--json', '--scope', 'read', '--name', 'dashboard')
  reader = (JSON.parse(paired.stdout) as { token: string }).token
})

const agentd = (...args: string[]) =>
  runProgram([process.execPath, AGENTD, ...args], {
    env: { AGENT_HOME: home },
  })
const ask = (path: string, options: Parameters<typeof rawRequest>[2] = {}) =>
  rawRequest(join(home, 'run/agent.sock'), path, options)
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const codeOf = (text: string) =>
  (JSON.parse(text) as { error: { code: string; message: string; hint: string } }).error

test('the socket and the local token are for the agent’s user alone', () => {
  expect(statSync(join(home, 'run/agent.sock')).mode & 0o777).toBe(0o600)
  expect(statSync(join(home, 'state/local-token')).mode & 0o777).toBe(0o600)
  expect(statSync(join(home, 'state')).mode & 0o777).toBe(0o700)
})

test('healthz answers without a token and tells nothing but the version', async () => {
  const { status, text } = await ask('/healthz')
  expect(status).toBe(200)
  expect(Object.keys(JSON.parse(text) as object).sort()).toEqual(['status', 'version'])
})

test('pair prints one JSON document with everything a client needs', async () => {
  const { code, stdout } = await agentd('pair', '--json', '--scope', 'operate', '--name', 'laptop')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toEqual({
    agentId: expect.stringMatching(/^[0-9a-f]{16}$/) as string,
    tokenId: expect.stringMatching(/^[0-9a-f]{12}$/) as string,
    token: expect.stringMatching(/^[0-9a-f]{12}\.[\w-]{43}$/) as string,
    scope: 'operate',
    spkiPin: null,
    tlsPort: null,
    socket: join(home, 'run/agent.sock'),
    version: expect.any(String) as string,
  })
})

test('T28: no token, a wrong one and none of the scheme get one and the same answer; read may not operate', async () => {
  const answers = await Promise.all([
    ask('/v1/status'),
    ask('/v1/status', { headers: bearer('000000000000.wrong') }),
    ask('/v1/status', { headers: bearer(`${reader}x`) }),
    ask('/v1/status', { headers: { authorization: `Basic ${admin}` } }),
    ask('/v1/status?token=' + admin),
    ask('/v1/openapi.json'),
  ])
  for (const answer of answers) expect(answer).toMatchObject({ status: 401, text: answers[0].text })
  expect((await ask('/v1/status', { headers: bearer(reader) })).status).toBe(200)
  const headers = { ...bearer(reader), 'content-type': 'application/json' }
  const refused = await ask('/v1/runs', { method: 'POST', headers, body: '{"manifest":"version: 1"}' })
  expect(refused.status).toBe(403)
  expect(codeOf(refused.text)).toMatchObject({ code: 'forbidden' })
  expect(codeOf((await ask('/v1/tokens', { headers: bearer(reader) })).text).code).toBe('forbidden')
})

test.each([
  { origin: 'https://evil.example' },
  { origin: 'null' },
  { referer: 'https://evil.example/' },
  { 'sec-fetch-site': 'cross-site' },
])('T30: a request that a web page could send is refused: %j', async (headers) => {
  const answer = await ask('/v1/status', { headers: { ...bearer(admin), ...headers } })
  expect(answer.status).toBe(403)
})

test.each([
  ['not JSON', '{"manifest":', 'bad_request'],
  ['the wrong type', '{"manifest":5}', 'bad_request'],
  ['no body', '', 'bad_request'],
  ['five megabytes', `{"manifest":"${'x'.repeat(5 * 2 ** 20)}"}`, 'body_too_large'],
  ['a manifest that is none', '{"manifest":"version: 2"}', 'invalid_manifest'],
])('a body with %s ends in a typed error', async (_what, body, code) => {
  const headers = { ...bearer(admin), 'content-type': 'application/json' }
  const { text, status } = await ask('/v1/plan', { method: 'POST', headers, body })
  expect(status).toBeGreaterThanOrEqual(400)
  expect(status).toBeLessThan(500)
  expect(codeOf(text)).toMatchObject({ code, hint: expect.stringMatching(/\S/) as string })
})

test('what is not there is 404 with a typed body, and every answer carries the version', async () => {
  const answer = await ask('/v1/nothing', { headers: bearer(admin) })
  expect(answer.status).toBe(404)
  expect(codeOf(answer.text).code).toBe('not_found')
  for (const path of ['/healthz', '/v1/nothing', '/v1/status'])
    expect((await ask(path, { headers: bearer(admin) })).headers['x-agent-version']).toMatch(/^\d+\.\d+\.\d+/)
})

test('the API describes itself in OpenAPI 3.1, every route with its answers', async () => {
  const { text } = await ask('/v1/openapi.json', { headers: bearer(reader) })
  const api = JSON.parse(text) as {
    openapi: string
    paths: Record<string, Record<string, { summary?: string; responses: Record<string, unknown> }>>
  }
  expect(api.openapi).toBe('3.1.0')
  expect(api).toMatchObject({
    security: [{ token: [] }],
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
  })
  const operations = Object.values(api.paths).flatMap((path) => Object.values(path))
  expect(operations.length).toBeGreaterThan(15)
  for (const operation of operations) {
    expect(operation.summary).toMatch(/\S/)
    expect(Object.keys(operation.responses)).toContain('default')
  }
})

test('the event stream resumes at Last-Event-ID, without a gap and without a repeat, also for who names no type', async () => {
  for (const name of ['one', 'two', 'three']) await agentd('pair', '--json', '--name', name)
  const listed = await ask('/v1/events?after=0', {
    headers: { ...bearer(admin), accept: 'application/json' },
  })
  const { events } = JSON.parse(listed.text) as { events: { id: number }[] }
  const middle = events.at(-3)?.id ?? 0
  const { text, headers } = await ask('/v1/events', {
    headers: { ...bearer(admin), 'last-event-id': String(middle) },
    until: (seen) => seen.includes(`id: ${events.at(-1)?.id ?? 0}\n`),
  })
  const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
  expect(headers['content-type']).toBe('text/event-stream')
  expect(ids).toEqual(events.map((event) => event.id).filter((id) => id > middle))
})

test('the metrics are Prometheus text', async () => {
  const { text, headers } = await ask('/v1/metrics', { headers: bearer(reader) })
  expect(headers['content-type']).toContain('version=0.0.4')
  expect(text).toMatch(/^gpu_agent_healthy 0$/m)
  for (const line of text.trim().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) gpu_agent_\w+ .+|gpu_agent_\w+(\{.*\})? -?[\d.e+]+)$/)
})
