import { createHash } from 'node:crypto'
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AuditRecord } from '../../shared/contract/audit-record.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { freePort } from '../support/comfyui/stand-in.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'

/* What `agentctl audit` tells of a box on which something was left lying about. */

const SECRET = 'the-value-that-nobody-may-see'

let home: string
let hub: Hub
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  mkdirSync(join(home, 'repo'))
  writeFileSync(join(home, 'secrets.local'), `B2_APP_KEY=${SECRET}\n`, { mode: 0o600 })
  hub = await startHub({ files: [] })
  const env = {
    HOME: home,
    B2_APP_KEY: SECRET,
    HF_ENDPOINT: hub.url,
    AGENT_ALLOW_HOSTS: hub.allowHosts.join(','),
  }
  agent = await startAgent({ home, env })
  await applyProcesses({})
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await hub.close()
  await removeHome(home)
})

const applyProcesses = async (processes: Readonly<Record<string, unknown>>): Promise<void> => {
  const manifest = join(home, 'manifest.yaml')
  const secrets = { required: ['B2_APP_KEY'], files: [join(home, 'secrets.local')] }
  const worker = {
    kind: 'command',
    command: ['sleep', '600'],
    restart: 'always',
    working_dir: join(home, 'repo'),
  }
  writeFileSync(
    manifest,
    JSON.stringify({ version: 1, name: 'box', secrets, processes: { worker, ...processes } }),
  )
  const { code, stderr } = await agent.agentctl(['apply', manifest])
  expect(code, stderr).toBe(0)
}

const audit = async () => {
  const { code, stdout } = await agent.agentctl(['audit', '--json'])
  const record = JSON.parse(stdout) as AuditRecord
  return { code, text: stdout, record, ours: record.problems.filter(({ message }) => message.includes(home)) }
}

test('incident B3: the declared secret file is right as it is', async () => {
  const { record, ours } = await audit()
  expect(ours).toEqual([])
  expect(record.checks.find(({ name }) => name === 'secrets')).not.toMatchObject({ state: 'error' })
  expect(record.checks.find(({ name }) => name === 'file modes')).toMatchObject({ state: 'ok' })
  expect(record.checks.find(({ name }) => name === 'clock')).toMatchObject({ state: 'ok' })
})

test('incident B3: the same secret anywhere else is told with its place, and not shown', async () => {
  const planted = {
    'repo/train.sh': `#!/bin/sh\nrclone copy --b2-key ${SECRET} out remote:\n`,
    'repo/workflows/wan.json': JSON.stringify({ nodes: [{ widgets_values: [SECRET] }] }),
    'repo/.git/config': `[remote "origin"]\n  url = https://user:${SECRET}@example.com/x.git\n`,
    '.bash_history': `ls\nexport B2_APP_KEY=${SECRET}\n`,
  }
  for (const [path, text] of Object.entries(planted)) {
    mkdirSync(join(home, path, '..'), { recursive: true })
    writeFileSync(join(home, path), text)
  }
  // A program that prints its settings, and takes a key as an argument: both by way of a file, as a script would.
  writeFileSync(
    join(home, 'leak.sh'),
    '. "$1"; echo "key is $B2_APP_KEY"; exec sh -c "sleep 600; :" "$B2_APP_KEY"\n',
  )
  await applyProcesses({
    leaky: {
      kind: 'command',
      command: ['sh', join(home, 'leak.sh'), join(home, 'secrets.local')],
      restart: 'always',
    },
  })
  await expect
    .poll(async () => (await agent.agentctl(['logs', 'leaky'])).stdout, { timeout: 60_000 })
    .toContain('key is')
  const { code, text, record } = await audit()
  expect(code).toBe(1)
  const exposed = record.problems.filter((problem) => problem.code === 'secret_exposed')
  const subjects = exposed.map(({ subject }) => subject)
  expect(subjects).toContain(`${join(home, 'repo/train.sh')}:2`)
  expect(subjects).toContain(`${join(home, 'repo/workflows/wan.json')}:1`)
  expect(subjects).toContain(`${join(home, 'repo/.git/config')}:2`)
  expect(subjects).toContain(`${join(home, '.bash_history')}:2`)
  expect(subjects.some((subject) => /^the arguments of process \d+ \(sh\)$/.test(subject))).toBe(true)
  expect(subjects.some((subject) => subject.startsWith(join(home, 'state/jobs/leaky')))).toBe(true)
  expect(subjects.join()).not.toContain('secrets.local')
  expect(exposed.find(({ subject }) => subject.includes('train.sh'))?.message).toContain(
    'rclone copy --b2-key [B2_APP_KEY]',
  )
  expect(text).not.toContain(SECRET)
  const shown = await agent.agentctl(['audit'])
  expect(shown.stdout + shown.stderr).not.toContain(SECRET)
  expect(shown.stdout).toMatch(/secrets +error/)

  for (const path of Object.keys(planted)) rmSync(join(home, path))
  await applyProcesses({})
})

test('incident B3: a declared secret file that others may read is an error with its remedy', async () => {
  chmodSync(join(home, 'secrets.local'), 0o644)
  const { code, ours } = await audit()
  expect(code).toBe(1)
  const modes = ours.filter((problem) => problem.code === 'file_exposed')
  expect(modes).toMatchObject([{ hint: `chmod 600 ${join(home, 'secrets.local')}` }])
  chmodSync(join(home, 'secrets.local'), 0o600)
})

test('incident A7: every listener on a public address is listed, and one of the manifest is an error', async () => {
  const port = await freePort()
  const serve = `require('node:net').createServer().listen(${port}, '0.0.0.0')`
  await applyProcesses({
    open: {
      kind: 'command',
      command: [process.execPath, '-e', serve],
      restart: 'always',
      ready: { port, within: '60s' },
    },
  })
  const { code, record } = await audit()
  expect(code).toBe(1)
  expect(record.listeners).toContainEqual(
    expect.objectContaining({ protocol: 'tcp', address: '0.0.0.0', port, public: true }),
  )
  expect(record.problems).toContainEqual(
    expect.objectContaining({ code: 'public_listener', severity: 'error', subject: `port ${port}` }),
  )
  const { stdout } = await agent.agentctl(['audit'])
  expect(stdout).toContain(`tcp 0.0.0.0:${port}`)
  await applyProcesses({})
})

test('incident B2: an audit changes no file, mode, time or event', async () => {
  const events = async () => (await agent.agentctl(['events', '--json'])).stdout
  await audit()
  const before = { files: fingerprint(home), events: await events() }
  await audit()
  expect({ files: fingerprint(home), events: await events() }).toEqual(before)
})

/** Path, mode, time of change and content of everything under a folder but the state’s own log of requests. */
const fingerprint = (folder: string): string => {
  const hash = createHash('sha256')
  const visit = (path: string): void => {
    const stats = lstatSync(path)
    if (path.includes('state.db')) return
    hash.update(`${path} ${stats.mode} ${stats.isSocket() ? '' : stats.mtimeMs} ${stats.uid}\n`)
    if (stats.isDirectory()) for (const name of readdirSync(path).sort()) visit(join(path, name))
    else if (stats.isFile()) hash.update(readFileSync(path))
  }
  visit(folder)
  return hash.digest('hex')
}
