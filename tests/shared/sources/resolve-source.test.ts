import { expect, test } from 'vitest'
import { createHttpClient } from '../../../agent/platform/http-client.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { AgentError } from '../../../shared/contract/errors.ts'
import { resolveSource } from '../../../shared/sources/resolve-source.ts'
import { GOOD_TOKEN, type HubFile, STRANGER_TOKEN } from '../../support/hub/hub-model.ts'
import type { FaultAction } from '../../support/hub/faults.ts'
import { startHub } from '../../support/hub/hub.ts'

const repo = 'owner/repo'
const path = 'a.safetensors'

const startResolver = async (files: readonly HubFile[], token?: string) => {
  const hub = await startHub({ files })
  const policy = { endpoints: { hf: hub.url, civitai: hub.civitaiUrl }, allowHosts: hub.allowHosts }
  const http = createHttpClient(policy)
  const resolve = (reference: string) =>
    resolveSource(reference, {
      ...policy,
      fetch: http.fetch,
      tokenFor: () => token,
      clock: systemClock,
      attempts: 2,
      signal: new AbortController().signal,
    })
  return {
    hub,
    resolve,
    /** The error of a source that must fail. */
    refusal: (reference: string): Promise<AgentError> =>
      resolve(reference).then(
        () => Promise.reject(new Error(`${reference} was resolved`)),
        (error: unknown) => (error instanceof AgentError ? error : Promise.reject(error as Error)),
      ),
    [Symbol.asyncDispose]: async () => {
      await http.close()
      await hub.close()
    },
  }
}

test('cases 23 and 26: size and hash come from the hub’s redirect, not from the content host or the redirect’s length', async () => {
  await using at = await startResolver([{ repo, path, sizeBytes: 5_000_000 }])
  const { content } = at.hub.file(path)
  expect(await at.resolve(`hf://${repo}@main/${path}`)).toMatchObject({
    sizeBytes: 5_000_000,
    sha256: content.sha256,
    kind: 'hf',
    fileName: path,
  })
})

test('a hub that keeps the bytes on its own host has published enough when it redirects to them', async () => {
  const sha256 = 'ab'.repeat(32)
  const does: FaultAction = {
    kind: 'answer',
    status: 302,
    headers: { location: '/content/1', 'x-linked-size': '7', 'x-linked-etag': `"${sha256}"` },
  }
  await using at = await startResolver([{ repo, path, faults: [{ at: 'hub', does }] }])
  const dataUrl = `${at.hub.url}/content/1`
  expect(await at.resolve(`hf://${repo}/${path}`)).toMatchObject({ sizeBytes: 7, sha256, dataUrl })
  expect(at.hub.requests).toHaveLength(1)
})

test('case 30: a relative redirect keeps its query and the token', async () => {
  await using at = await startResolver(
    [{ repo, path: 'c.json', text: '{}', small: true, gated: true }],
    GOOD_TOKEN,
  )
  const found = await at.resolve(`hf://${repo}/c.json`)
  expect(found).toMatchObject({
    sizeBytes: 2,
    sha256: null,
    gitSha1: expect.stringMatching(/^[0-9a-f]{40}$/) as string,
  })
  expect(at.hub.requests.map((request) => request.authorization)).toEqual(
    Array(2).fill(`Bearer ${GOOD_TOKEN}`),
  )
})

test.each([
  { case: 36, token: undefined, says: /is gated and there is no token/, hint: /then give/ },
  {
    case: 36,
    token: 'hf_nonsense',
    says: /is gated and the token was not accepted/,
    hint: /Accept the terms/,
  },
  { case: 37, token: STRANGER_TOKEN, says: /account has no access/, hint: /Accept the terms/ },
])('case $case: a gated repository is told as gated, with where to accept its terms ($says)', async (row) => {
  await using at = await startResolver([{ repo, path, gated: true }], row.token)
  const error = await at.refusal(`hf://${repo}/${path}`)
  expect(error.code).toBe('gated')
  expect(error.message).toMatch(row.says)
  expect(error.hint).toMatch(row.hint)
  expect(error.hint).toContain(`${at.hub.url}/${repo}`)
  expect(at.hub.requests).toHaveLength(1)
})

test('case 38: a bad token does not hide a public file', async () => {
  await using at = await startResolver([{ repo, path }], 'hf_nonsense')
  expect(await at.resolve(`hf://${repo}/${path}`)).toMatchObject({ anonymous: true })
  expect(at.hub.requests.map((request) => request.authorization)).toEqual(['Bearer hf_nonsense', null])
})

test('case 38: a bad token is told as such when the file is not public', async () => {
  await using at = await startResolver([{ repo, path }], 'hf_nonsense')
  expect(await at.refusal(`hf://some/other/${path}`)).toMatchObject({ code: 'bad_token' })
})

test.each([
  { case: 39, reference: `hf://${repo}/missing`, code: 'source_not_found' },
  { case: 40, reference: `hf://${repo}@v9/${path}`, code: 'revision_not_found' },
  { case: 41, reference: `hf://some/other/${path}`, code: 'repository_not_found' },
])('case $case: $reference is told as $code', async ({ reference, code }) => {
  await using at = await startResolver([{ repo, path }], GOOD_TOKEN)
  expect(await at.refusal(reference)).toMatchObject({ code })
})

const refusals: { name: string; does: FaultAction; code: string }[] = [
  {
    name: 'case 42: a disabled repository',
    does: {
      kind: 'answer',
      status: 403,
      headers: { 'x-error-message': 'Access to this resource is disabled.' },
    },
    code: 'repository_disabled',
  },
  {
    name: 'case 33: a redirect without Location',
    does: { kind: 'answer', status: 302 },
    code: 'redirect_refused',
  },
  {
    name: 'case 33: a redirect to a file',
    does: { kind: 'answer', status: 302, headers: { location: 'file:///etc/passwd' } },
    code: 'redirect_refused',
  },
  {
    name: 'case 33: a redirect to the metadata service',
    does: { kind: 'answer', status: 302, headers: { location: 'http://169.254.169.254/latest/' } },
    code: 'forbidden_address',
  },
  {
    name: 'case 33: a redirect to itself for ever',
    does: { kind: 'answer', status: 302, headers: { location: `/${repo}/resolve/main/${path}` } },
    code: 'redirect_refused',
  },
  { name: 'case 43: a hub that fails', does: { kind: 'answer', status: 503 }, code: 'source_unavailable' },
  {
    name: 'case 49: a wait that is too long',
    does: { kind: 'answer', status: 429, headers: { 'retry-after': '2000' } },
    code: 'rate_limited',
  },
]
test.each(refusals)('$name is told as $code', async ({ does, code }) => {
  await using at = await startResolver([{ repo, path, faults: [{ at: 'hub', does }] }])
  expect(await at.refusal(`hf://${repo}/${path}`)).toMatchObject({ code })
})

test('case 45: a rate limit is waited for as long as it says, once', async () => {
  const does: FaultAction = { kind: 'answer', status: 429, headers: { ratelimit: '"resolvers";r=0;t=1' } }
  await using at = await startResolver([{ repo, path, faults: [{ at: 'hub', times: 1, does }] }])
  const started = performance.now()
  await at.resolve(`hf://${repo}/${path}`)
  expect(performance.now() - started).toBeGreaterThan(1_900)
  expect(at.hub.requests).toHaveLength(2)
})

test('case 29: a token is not sent to the same host on another port', async () => {
  const faults = [
    { at: 'hub' as const, does: { kind: 'answer' as const, status: 302, headers: { location: '' } } },
  ]
  await using at = await startResolver([{ repo, path, faults }], GOOD_TOKEN)
  faults[0]!.does.headers.location = `${at.hub.mirrorUrl}/${path}`
  await at.resolve(`hf://${repo}/${path}`)
  expect(at.hub.requests.map((request) => [request.at, request.authorization])).toEqual([
    ['hub', `Bearer ${GOOD_TOKEN}`],
    ['mirror', null],
  ])
})

test('case 31: a mirror that redirects to the hub is followed, and the token goes to the hub alone', async () => {
  await using at = await startResolver([{ repo, path, gated: true }], GOOD_TOKEN)
  const location = `${at.hub.url}/${repo}/resolve/main/${path}`
  at.hub.file(path).faults.push({
    at: 'mirror',
    does: { kind: 'answer', status: 308, headers: { location } },
  })
  // The mirror is a plain address to us: it is no hub of ours, so nobody gets the token, and the gate stays shut.
  expect(await at.refusal(`${at.hub.mirrorUrl}/${path}`)).toMatchObject({ code: 'login_required' })
  expect(at.hub.requests.map((request) => [request.at, request.authorization])).toEqual([
    ['mirror', null],
    ['hub', null],
  ])
})

test('Civitai: the hash and the name come with the file, and the token stays with Civitai', async () => {
  await using at = await startResolver(
    [{ repo, path, sizeBytes: 4_000, civitaiVersion: 12, gated: true }],
    GOOD_TOKEN,
  )
  expect(await at.resolve('civitai://versions/12')).toMatchObject({
    sizeBytes: 4_000,
    sha256: at.hub.file(path).content.sha256,
    fileName: path,
    acceptsRanges: true,
  })
  expect(at.hub.requests.filter((request) => request.at === 'cdn' && request.authorization)).toEqual([])
})

test.each([
  {
    status: 401,
    body: '{"message":"The creator of this asset has disabled downloads on this file"}',
    code: 'source_refused',
  },
  { status: 403, body: '{"error":"Early Access"}', code: 'gated' },
  { status: 410, body: '', code: 'archived' },
  { status: 404, body: '', code: 'source_not_found' },
])('Civitai: $status $body is told as $code', async ({ status, body, code }) => {
  const faults = [{ at: 'civitai' as const, does: { kind: 'answer' as const, status, body } }]
  await using at = await startResolver([{ repo, path, civitaiVersion: 12, faults }])
  expect(await at.refusal('civitai://versions/12')).toMatchObject({ code })
})

test('Civitai: a file that wants a login is told as that when there is no token', async () => {
  await using at = await startResolver([{ repo, path, civitaiVersion: 12, gated: true }])
  expect(await at.refusal('civitai://versions/12')).toMatchObject({ code: 'login_required' })
})

test.each([
  'http://example.com/a',
  'https://127.0.0.1/a',
  'https://2130706433/a',
  'https://[::1]/a',
  'https://[::ffff:10.0.0.1]/a',
  'https://169.254.169.254/latest/meta-data',
  'https://localhost/a',
  'https://metadata.google.internal/a',
])('T37: %s is a forbidden address', async (reference) => {
  await using at = await startResolver([])
  expect(await at.refusal(reference)).toMatchObject({ code: 'forbidden_address' })
})
