import { readdirSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { checkRemote } from '../../../agent/sync/check-remote.ts'
import type { PlannedRemote } from '../../../agent/sync/planned-sync.ts'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, safetensors, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const searchPath = `${skipped ? '' : rclone.folder}:/usr/bin:/bin`

/** An HTTP server on loopback that remembers what it was asked. */
const serve = async (answer: (request: IncomingMessage, response: ServerResponse) => void) => {
  const asked: string[] = []
  const server = createServer((incoming, response) => {
    asked.push(incoming.url ?? '')
    answer(incoming, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** The part of B2 that an upload begins with; asking where to upload to is refused as the test says. */
const serveB2 = (refusal: { status: number; code: string; message: string }) =>
  serve((incoming, response) => {
    const host = `http://${incoming.headers.host ?? ''}`
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    const verb = /b2_\w+/.exec(incoming.url ?? '')?.[0]
    incoming.resume()
    const bucket = { accountId: 'a', bucketId: 'b1', bucketName: 'bucket', bucketType: 'allPrivate' }
    const allowed = {
      bucketId: null,
      bucketName: null,
      capabilities: ['listBuckets', 'listFiles', 'readFiles'],
    }
    const storageApi = {
      ...allowed,
      apiUrl: host,
      downloadUrl: host,
      absoluteMinimumPartSize: 5e6,
      recommendedPartSize: 1e8,
      allowed,
    }
    if (verb === 'b2_authorize_account')
      send(200, {
        accountId: 'a',
        authorizationToken: 't',
        ...storageApi,
        minimumPartSize: 1e8,
        apiInfo: { storageApi },
      })
    else if (verb === undefined) send(404, { status: 404, code: 'not_found', message: 'no such file' })
    else if (verb === 'b2_list_buckets') send(200, { buckets: [bucket] })
    else if (verb === 'b2_list_file_names' || verb === 'b2_list_file_versions') send(200, { files: [] })
    else send(refusal.status, refusal)
  })

const b2 = (endpoint: string): PlannedRemote => ({
  name: 'store',
  type: 'b2',
  options: { account: 'an-account-id', key: 'a-secret-application-key', endpoint },
})

const copyOnce = async (box: SyncBox, remote: PlannedRemote) => {
  box.write('model.safetensors', safetensors('a'))
  box.sync.configure([box.plan({}, { remote, to: 'bucket/run' })])
  return box.runNow()
}

describe.skipIf(skipped)(skipped ? `refusals (skipped: ${rclone.reason})` : 'refusals', () => {
  test('S18: a B2 key that may not write is sync_auth after few calls, and the message says what it may not', async () => {
    await using server = await serveB2({ status: 401, code: 'unauthorized', message: 'lacks writeFiles' })
    await using box = createSyncBox({ searchPath })
    const row = await copyOnce(box, b2(server.url))
    expect(row).toMatchObject({ consecutiveFailures: 1, problem: { code: 'sync_auth' } })
    expect(row.problem?.message).toContain('writeFiles')
    expect(server.asked.length).toBeLessThanOrEqual(30)
    expect(JSON.stringify([row, box.logLines])).not.toContain('a-secret-application-key')
  })

  test('S19: a B2 storage cap is sync_quota, without a loop of calls', async () => {
    const message = 'Cannot upload files, storage cap exceeded'
    await using server = await serveB2({ status: 403, code: 'storage_cap_exceeded', message })
    await using box = createSyncBox({ searchPath })
    const row = await copyOnce(box, b2(server.url))
    expect(row).toMatchObject({ consecutiveFailures: 1, problem: { code: 'sync_quota' } })
    expect(server.asked.length).toBeLessThanOrEqual(30)
  })

  test('S20: a storm of 503 and 429 passes: the sync waits and is done when it is over', async () => {
    if (skipped) throw new Error(rclone.reason)
    await using box = createSyncBox({ searchPath, random: () => 0 })
    const served = await serveWebdav(rclone.path, { folder: box.remote, user: 'me', password: 'a password' })
    await using dav = { url: served.url, [Symbol.asyncDispose]: () => served.close() }
    let refused = 0
    await using storm = await serve((incoming, response) => {
      if (incoming.method === 'PUT' && refused < 4) {
        refused += 1
        incoming.resume()
        response.writeHead(refused % 2 ? 503 : 429).end()
        return
      }
      const { method, headers, url } = incoming
      const passed = request(`${dav.url}${url ?? ''}`, { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      incoming.pipe(passed)
    })
    const options = { url: storm.url, user: 'me', pass: 'a password' }
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([box.plan({}, { remote: { name: 'dav', type: 'webdav', options }, to: 'run' })])
    box.serve()
    await until(() => box.events.some(({ type }) => type === 'sync.copied'))
    await until(() => box.sync.rows()[0]?.state === 'idle')
    expect(refused).toBe(4)
    expect(box.sync.rows()[0]).toMatchObject({ pendingFiles: 0, problem: null, consecutiveFailures: 0 })
  })

  const dropbox = (token: Readonly<Record<string, string>>, tokenUrl?: string): PlannedRemote => ({
    name: 'drop',
    type: 'dropbox',
    options: {
      client_id: 'the-app',
      client_secret: 'the-app-secret',
      token: JSON.stringify(token),
      ...(tokenUrl === undefined ? {} : { token_url: tokenUrl }),
    },
  })
  const check = (box: SyncBox, remote: PlannedRemote) =>
    checkRemote(box.plan({}, { remote, to: 'run' }), {
      searchPath,
      temporaryFolder: box.temporaryFolder,
      // Nothing behind the token is reached: what asks Dropbox itself ends at a closed port.
      environment: { HTTPS_PROXY: 'http://127.0.0.1:1' },
      signal: AbortSignal.timeout(60_000),
      timeoutMs: 30_000,
    })

  test('S21: an expired Dropbox token without a refresh token is sync_auth at plan time', async () => {
    await using box = createSyncBox({ searchPath })
    const expired = { access_token: 'sl.expired', token_type: 'bearer', expiry: '2020-01-01T00:00:00Z' }
    const problem = await check(box, dropbox(expired))
    expect(problem).toMatchObject({ code: 'sync_auth' })
    expect(JSON.stringify(problem)).not.toMatch(/sl\.expired|the-app-secret/)
  })

  test('S22: a token that is refreshed is written nowhere', async () => {
    await using server = await serve((incoming, response) => {
      incoming.resume()
      const fresh = { access_token: 'sl.fresh', token_type: 'bearer', expires_in: 14_400 }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(fresh))
    })
    await using box = createSyncBox({ searchPath })
    const old = {
      access_token: 'sl.old',
      refresh_token: 'the-refresh-token',
      token_type: 'bearer',
      expiry: '2020-01-01T00:00:00Z',
    }
    const problem = await check(box, dropbox(old, `${server.url}/token`))
    expect(server.asked).toContain('/token')
    expect(problem).not.toBeNull()
    expect(JSON.stringify(problem)).not.toMatch(/sl\.(old|fresh)|the-refresh-token/)
    const left = readdirSync(box.home, { recursive: true, encoding: 'utf8' })
    expect(left.filter((name) => name.includes('rclone'))).toEqual([])
  })
})
