import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { makeHome, removeHome, runProgram, startAgent } from '../support/agent-process.ts'
import type { Ended } from '../support/agent-process.ts'
import { AGENTCTL, AGENTD } from '../support/programs.ts'

/* Bad input ends in the contract's exit status with two lines that a person can act on, and changes nothing. */

const agent = await startAgentForFile()
const { home } = agent

const manifest = (name: string, text: string): string => {
  const path = join(home, name)
  writeFileSync(path, text)
  return path
}

const agentd = (args: readonly string[], env: Record<string, string> = {}) =>
  runProgram([process.execPath, AGENTD, ...args], { env })

/** Two lines, the second with something to do. */
const expectTwoLines = (ended: Ended, error: RegExp | string): void => {
  expect(ended.stderr).toMatch(/^error: .+\ntry: .+\n$/s)
  expect(ended.stderr).toMatch(error)
}

test('an unknown command and an unknown flag are usage errors', async () => {
  for (const args of [['aply'], ['status', '--chek'], ['apply']]) {
    const ended = await agent.agentctl(args)
    expect(ended.code).toBe(2)
    expect(ended.stderr).toMatch(/error: .+\ntry: .+/)
  }
})

test('a manifest with mistakes is refused with every line, and no run is made', async () => {
  const path = manifest('bad.yaml', 'version: 1\nname: bad\ndownlods: []\nprocesses:\n  a: {kind: comand}\n')
  const ended = await agent.agentctl(['apply', path])
  expect(ended.code).toBe(3)
  expect(ended.stderr).toContain(`${path}:3`)
  expect(ended.stderr).toContain('downloads')
  const runs = JSON.parse((await agent.agentctl(['runs', '--json'])).stdout) as { runs: unknown[] }
  expect(runs.runs).toEqual([])
})

test('a plan with errors is refused, with all of them, and the box stays as it is', async () => {
  const path = manifest(
    'plan.yaml',
    `version: 1
name: plan
secrets: {required: [NOT_THERE]}
requires: {disk_free: 900TB}
python: {interpreter: /no/such/python}
processes:
  job: {kind: command, working_dir: /no/such/folder, command: ["true"]}
`,
  )
  const ended = await agent.agentctl(['apply', path, '--json'])
  expect(ended.code).toBe(3)
  const { error } = JSON.parse(ended.stdout) as { error: { code: string; problems: { code: string }[] } }
  expect(error.code).toBe('plan_has_errors')
  expect(error.problems.map((problem) => problem.code).sort()).toEqual([
    'disk_too_small',
    'no_interpreter',
    'secret_missing',
    'working_dir_missing',
  ])
})

test('a manifest that is not there is an error of the command line', async () => {
  const ended = await agent.agentctl(['apply', '/no/such/manifest.yaml'])
  expect(ended.code).toBe(2)
  expectTwoLines(ended, '/no/such/manifest.yaml')
})

test('a busy port is told before anything is started', async () => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const path = manifest(
    'port.yaml',
    `version: 1\nname: port\nprocesses:\n  web: {kind: command, command: [sleep, "1"], ready: {port: ${port}}}\n`,
  )
  const ended = await agent.agentctl(['apply', path])
  await new Promise((resolve) => server.close(resolve))
  expect(ended.code).toBe(3)
  expect(ended.stderr).toContain(`port ${port}`)
})

test('unknown things are exit 6', async () => {
  for (const args of [
    ['stop', 'nobody'],
    ['logs', 'nobody'],
    ['run', 'show', 'nope'],
    ['pull-checkpoint', 'latest'],
  ])
    expect((await agent.agentctl(args)).code, args.join(' ')).toBe(6)
})

test('a wrong token is exit 4, and an agent that is not there is exit 5', async () => {
  const agentctl = (env: Record<string, string>) =>
    runProgram([process.execPath, AGENTCTL, 'status'], { env })
  const wrong = await agentctl({
    AGENTCTL_HOST: `unix:${home}/run/agent.sock`,
    AGENTCTL_TOKEN: 'aaaaaaaaaaaa.wrong',
  })
  expect(wrong.code).toBe(4)
  expectTwoLines(wrong, 'token')
  const nobody = await agentctl({ AGENT_HOME: '/no/such/home' })
  expect(nobody.code).toBe(5)
  expectTwoLines(nobody, '/no/such/home')
})

test('another manifest while a run goes on is exit 8; cancel ends the run', async () => {
  const slow = manifest(
    'slow.yaml',
    'version: 1\nname: slow\nprocesses:\n  a: {kind: command, command: [sleep, "60"], ready: {port: 47188, within: 60s}}\n',
  )
  const other = manifest('other.yaml', 'version: 1\nname: other\n')
  const started = await agent.agentctl(['apply', slow, '--detach', '--json'])
  expect(started.code, started.stderr).toBe(0)
  const { run } = JSON.parse(started.stdout) as { run: { id: string } }
  const refused = await agent.agentctl(['apply', other])
  expect(refused.code).toBe(8)
  expectTwoLines(refused, run.id)
  const joined = await agent.agentctl(['apply', slow, '--detach', '--json'])
  expect((JSON.parse(joined.stdout) as { run: { id: string } }).run.id).toBe(run.id)
  const cancelled = await agent.agentctl(['run', 'cancel', run.id, '--json'])
  expect(cancelled.code).toBe(0)
  expect(JSON.parse(cancelled.stdout)).toMatchObject({ run: { id: run.id, state: 'cancelled' } })
})

test('T12: a second agent in the same home ends with a clear message, and the first goes on', async () => {
  const second = await agentd(['--home', home])
  expect(second.code).toBe(8)
  expectTwoLines(second, 'another agentd')
  expect((await agent.agentctl(['version'])).code).toBe(0)
})

test('bad flags of agentd and an unusable home end with two lines', async () => {
  expectTwoLines(await agentd(['--hom', '/x']), '--hom')
  expectTwoLines(await agentd(['--listen', 'http://x', '--home', home]), 'http://x')
  expectTwoLines(await agentd(['--home', `/tmp/${'x'.repeat(120)}`]), '107 bytes')
  const file = manifest('a-file', '')
  const refused = await agentd(['--home', join(file, 'home')])
  expect(refused.code).toBe(3)
  expectTwoLines(refused, 'a-file')
})

test('a home that nobody may write, root included, is refused', async () => {
  const refused = await agentd(['--home', '/proc/agent-home'])
  expect(refused.code).toBe(3)
  expectTwoLines(refused, '/proc/agent-home')
})

test('a remote without rclone on the box is refused with the program’s name', async () => {
  const bare = makeHome()
  const alone = await startAgent({ home: bare, env: { PATH: '/nowhere' } })
  try {
    const path = manifest(
      'remote.yaml',
      `version: 1
name: remote
remotes:
  dav: {type: webdav, url: "http://127.0.0.1:1"}
sync:
  - {name: outputs, path: ${bare}, to: "dav:runs"}
`,
    )
    const ended = await alone.agentctl(['apply', path])
    expect(ended.code).toBe(3)
    expect(ended.stderr).toContain('rclone')
  } finally {
    await alone.kill('SIGTERM')
    await removeHome(bare)
  }
})

const canMount = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0

test.skipIf(!canMount)(
  'T19: an agent on a full disk says so and leaves nothing behind (needs root for a small disk)',
  async () => {
    const disk = makeHome()
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk])
    expect(mounted.status).toBe(0)
    try {
      writeFileSync(join(disk, 'filler'), Buffer.alloc(60 * 1024))
      const ended = await agentd(['--home', join(disk, 'home')])
      expect(ended.code).not.toBe(0)
      expectTwoLines(ended, /room|space|full/i)
    } finally {
      spawnSync('umount', [disk])
      await removeHome(disk)
    }
  },
)
