import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../../agent/platform/clock.ts'
import { createHttpClient } from '../../../agent/platform/http-client.ts'
import { createFetcher } from '../../../client/fetch-source.ts'
import { askGitRef } from '../../../shared/sources/ask-git.ts'
import { DEFAULT_ENDPOINTS } from '../../../shared/sources/endpoints.ts'
import { makeRepository, serveRepositories } from '../../agent/python/git-server.ts'

const git = spawnSync('git', ['--version']).status === 0

/** The same questions through the agent's connections and through those of the client. */
describe.skipIf(!git)(`Refs of git repositories (${git ? 'with git' : 'there is no git'})`, () => {
  let folder: string
  let server: Awaited<ReturnType<typeof serveRepositories>>
  let commits: { old: string; tag: string; main: string }
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ask-git-'))
    const repository = makeRepository(folder, 'pack.git')
    const old = repository.commit('a.py', 'a')
    const tag = repository.commit('b.py', 'b')
    repository.tag('v1')
    commits = { old, tag, main: repository.commit('c.py', 'c') }
    server = await serveRepositories(folder)
  })
  afterAll(async () => {
    await server.close()
    rmSync(folder, { recursive: true })
  })

  const policy = (host = server.host) => ({ endpoints: DEFAULT_ENDPOINTS, allowHosts: [host] })
  const ask = async (
    ref: string,
    address = `${server.url}/pack.git`,
    who: 'agent' | 'client' = 'agent',
    host = server.host,
  ) => {
    const clients = { agent: createHttpClient(policy(host)), client: createFetcher(policy(host)) }
    try {
      return await askGitRef(
        { git: address, ref },
        {
          ...policy(host),
          fetch: clients[who].fetch,
          clock: systemClock,
          tokenFor: () => undefined,
          attempts: 1,
          signal: new AbortController().signal,
        },
      )
    } finally {
      await clients.agent.close()
      clients.client.close()
    }
  }

  test.each(['agent', 'client'] as const)('branches, tags and commits are found by the %s', async (who) => {
    const address = `${server.url}/pack.git`
    expect(await ask('main', address, who)).toBe(commits.main)
    // What the tag stands for, not the tag itself.
    expect(await ask('v1', address, who)).toBe(commits.tag)
    expect(await ask(commits.main, address, who)).toBe(commits.main)
    // No branch points at it: the server is asked whether it would send it.
    expect(await ask(commits.old, address, who)).toBe(commits.old)
  })

  test('what is not there is told as what it is', async () => {
    await expect(ask('v2')).rejects.toMatchObject({ code: 'revision_not_found' })
    await expect(ask('ab'.repeat(20))).rejects.toMatchObject({ code: 'revision_not_found' })
    await expect(ask('main', `${server.url}/nothing.git`)).rejects.toMatchObject({
      code: 'repository_not_found',
    })
    await expect(ask('main', 'https://10.0.0.1/pack.git')).rejects.toMatchObject({
      code: 'forbidden_address',
    })
  })

  test('a plain file server hands out branches and tags as well, and does not tell other commits', async () => {
    const repository = join(folder, 'pack.git/.git')
    spawnSync('git', ['update-server-info'], { cwd: repository })
    const refs = readFileSync(join(repository, 'info/refs'))
    const files = createServer(({ url }, response) =>
      response.writeHead(url?.startsWith('/pack.git/info/refs') ? 200 : 404).end(refs),
    )
    await new Promise<void>((resolve) => files.listen(0, '127.0.0.1', resolve))
    const host = `127.0.0.1:${(files.address() as AddressInfo).port}`
    try {
      const address = `http://${host}/pack.git`
      expect(await ask('main', address, 'agent', host)).toBe(commits.main)
      expect(await ask('v1', address, 'agent', host)).toBe(commits.tag)
      expect(await ask(commits.main, address, 'agent', host)).toBe(commits.main)
      expect(await ask(commits.old, address, 'agent', host)).toBeNull()
      await expect(ask('v2', address, 'agent', host)).rejects.toMatchObject({ code: 'revision_not_found' })
    } finally {
      files.closeAllConnections()
      await new Promise((resolve) => files.close(resolve))
    }
  })

  test('a web page is no repository, and a server that fails may be back later', async () => {
    let status = 200
    const page = createServer((_, response) => response.writeHead(status).end('<html>hello</html>'))
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
    const { port } = page.address() as AddressInfo
    const asked = async () => {
      const client = createHttpClient({ endpoints: DEFAULT_ENDPOINTS, allowHosts: [`127.0.0.1:${port}`] })
      const context = {
        ...policy(),
        allowHosts: [`127.0.0.1:${port}`],
        fetch: client.fetch,
        clock: systemClock,
      }
      const signal = new AbortController().signal
      try {
        return await askGitRef(
          { git: `http://127.0.0.1:${port}/a/b`, ref: 'main' },
          { ...context, tokenFor: () => undefined, attempts: 2, signal },
        )
      } finally {
        await client.close()
      }
    }
    try {
      await expect(asked()).rejects.toMatchObject({ code: 'source_refused' })
      status = 503
      await expect(asked()).rejects.toMatchObject({ code: 'source_unavailable' })
    } finally {
      page.closeAllConnections()
      await new Promise((resolve) => page.close(resolve))
    }
  })
})
