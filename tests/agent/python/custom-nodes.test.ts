import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { findProgram } from '../../../agent/platform/commands.ts'
import { cloneCustomNodes } from '../../../agent/python/custom-nodes.ts'
import { makeRepository, serveRepositories } from './git-server.ts'

const git = findProgram('git', process.env['PATH'] ?? '')

describe.skipIf(git === undefined)(`custom nodes (${git ?? 'without git: skipped'})`, () => {
  let root: string
  let folder: string
  let server: Awaited<ReturnType<typeof serveRepositories>>
  let first: string
  let second: string
  let repository: ReturnType<typeof makeRepository>
  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'nodes-'))
    repository = makeRepository(join(root, 'served'), 'pack.git')
    first = repository.commit('node.py', 'one\n')
    repository.tag('v1')
    second = repository.commit('node.py', 'two\n')
    server = await serveRepositories(join(root, 'served'))
  })
  afterAll(async () => {
    await server.close()
    rmSync(root, { recursive: true, force: true })
  })
  beforeEach(() => {
    folder = mkdtempSync(join(root, 'custom_nodes-'))
  })
  afterEach(() => {
    // Nothing half-made is ever left beside the nodes.
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([])
  })

  const clone = (
    nodes: readonly { git: string; ref: string; optional?: boolean }[],
    allowHosts: readonly string[] = [server.host],
  ) =>
    cloneCustomNodes(
      nodes.map((node) => ({ optional: false, ...node })),
      { folder, git: git!, allowHosts, signal: new AbortController().signal, report: () => undefined },
    )
  const pack = () => `${server.url}/pack.git`
  const content = () => readFileSync(join(folder, 'pack', 'node.py'), 'utf8')

  test('are checked out at their commit, and cost one look when they are there', async () => {
    expect(await clone([{ git: pack(), ref: first }])).toEqual([])
    expect(content()).toBe('one\n')
    const asked = server.requests.length
    expect(await clone([{ git: pack(), ref: first.toUpperCase() }])).toEqual([])
    expect(server.requests.length).toBe(asked)
    expect(await clone([{ git: pack(), ref: second }])).toEqual([])
    expect(content()).toBe('two\n')
  })

  test('resolve a branch once, say which commit it is, and stay there', async () => {
    const side = makeRepository(join(root, 'served'), 'moving.git')
    const then = side.commit('node.py', 'then\n')
    const moving = `${server.url}/moving.git`
    const problems = await clone([{ git: moving, ref: 'main' }])
    expect(problems).toMatchObject([{ code: 'unpinned_ref', severity: 'warning', subject: 'moving' }])
    expect(problems[0]!.message).toContain(then)
    side.commit('node.py', 'now\n')
    await clone([{ git: moving, ref: 'main' }])
    expect(readFileSync(join(folder, 'moving', 'node.py'), 'utf8')).toBe('then\n')
  })

  test('take what a tag stands for', async () => {
    expect(await clone([{ git: pack(), ref: 'v1' }])).toMatchObject([{ code: 'unpinned_ref' }])
    expect(content()).toBe('one\n')
  })

  test('that fail are named: an error where required, a warning where optional, and the rest goes on', async () => {
    const problems = await clone([
      { git: `${server.url}/nothing.git`, ref: first },
      { git: `${server.url}/other.git`, ref: 'main', optional: true },
      { git: pack(), ref: 'no-such-branch' },
      { git: pack().replace('pack', './pack'), ref: first },
    ])
    expect(problems.map(({ code, severity, subject }) => [code, severity, subject])).toEqual([
      ['custom_node_failed', 'error', 'nothing'],
      ['custom_node_failed', 'warning', 'other'],
      ['custom_node_failed', 'error', 'pack'],
    ])
    expect(problems[2]!.message).toContain('no branch or tag no-such-branch')
    expect(content()).toBe('one\n')
  })

  test('T38: come over https, or from a host that is listed', async () => {
    const asked = server.requests.length
    const problems = await clone(
      [
        { git: pack(), ref: first },
        { git: `file://${repository.path}`, ref: first },
        { git: 'ext::sh -c "touch /tmp/owned"', ref: first },
        { git: '--upload-pack=touch /tmp/owned', ref: first },
        { git: 'https://user:secret@example.com/x.git', ref: first },
      ],
      ['another.example'],
    )
    expect(problems).toHaveLength(5)
    expect(problems.every((problem) => problem.severity === 'error')).toBe(true)
    expect(server.requests.length).toBe(asked)
    expect(readdirSync(folder)).toEqual([])
    expect(JSON.stringify(problems)).not.toContain('secret')
  })

  test('never overwrite what somebody changed or put there', async () => {
    mkdirSync(join(folder, 'pack'))
    writeFileSync(join(folder, 'pack', 'mine.py'), 'mine')
    expect(await clone([{ git: pack(), ref: first }])).toMatchObject([{ code: 'custom_node_failed' }])
    expect(readFileSync(join(folder, 'pack', 'mine.py'), 'utf8')).toBe('mine')
    rmSync(join(folder, 'pack'), { recursive: true })

    await clone([{ git: pack(), ref: first }])
    writeFileSync(join(folder, 'pack', 'node.py'), 'edited\n')
    expect(await clone([{ git: pack(), ref: second }])).toMatchObject([
      { code: 'custom_node_failed', message: expect.stringContaining('changes of its own') as string },
    ])
    expect(content()).toBe('edited\n')
  })

  test('T35: do not follow a link out of their folder', async () => {
    const outside = mkdtempSync(join(root, 'outside-'))
    symlinkSync(outside, join(folder, 'pack'))
    expect(await clone([{ git: pack(), ref: first }])).toMatchObject([{ code: 'unsafe_path' }])
    expect(readdirSync(outside)).toEqual([])
  })

  test('T38: run no hook of the machine or of a clone', async () => {
    const marker = join(root, 'hook-ran')
    const hooks = join(root, 'hooks')
    mkdirSync(hooks)
    writeFileSync(join(hooks, 'post-checkout'), `#!/bin/sh\ntouch ${marker}\n`, { mode: 0o755 })
    await clone([{ git: pack(), ref: first }])
    spawnSync(git!, ['config', 'core.hooksPath', hooks], { cwd: join(folder, 'pack') })
    await clone([{ git: pack(), ref: second }])
    expect(content()).toBe('two\n')
    expect(existsSync(marker)).toBe(false)
  })
})
