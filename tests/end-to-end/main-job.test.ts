import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { startDemoWorld } from '../support/demo-world.ts'
import type { DemoWorld } from '../support/demo-world.ts'
import { STRANGER_TOKEN } from '../support/hub/hub-model.ts'
import { sha256OfFile } from '../support/sha256-of-file.ts'

/* The main job as a user does it, with the programs as they are released. The tests build on each other in order. */

let home: string
let world: DemoWorld
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  world = await startDemoWorld(home)
  agent = await startAgent({ home, env: world.environment })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await world.close()
  await removeHome(home)
})

/** The command lines of all processes that name this folder in their arguments or their environment. */
const commandLinesOf = async (folder: string): Promise<string[]> => {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '')
  const lines = (await readdir('/proc'))
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map(async (pid) => {
      const commandLine = await read(`/proc/${pid}/cmdline`)
      return (commandLine + (await read(`/proc/${pid}/environ`))).includes(folder) ? [commandLine] : []
    })
  return (await Promise.all(lines)).flat()
}

const status = async (): Promise<StatusRecord> => {
  const { stdout } = await agent.agentctl(['status', '--json'])
  return JSON.parse(stdout) as StatusRecord
}

test('a bare box is not healthy, and says so', async () => {
  expect(await status()).toMatchObject({
    healthy: false,
    run: null,
    manifest: null,
    downloads: [],
    processes: [],
  })
  expect((await agent.agentctl(['status', '--check'])).code).toBe(1)
})

test('plan tells what would change and what is wrong, and changes nothing', async () => {
  const { code, stdout } = await agent.agentctl(['plan', world.manifestPath, '--json'])
  expect(code).toBe(0)
  const plan = JSON.parse(stdout) as { problems: unknown[]; changes: unknown; estimate: unknown }
  expect(plan.problems).toMatchObject([
    { code: 'gated', severity: 'warning', subject: 'loras/style.safetensors' },
  ])
  expect(plan.changes).toMatchObject({
    downloads: [
      { to: 'checkpoints/base.safetensors', action: 'fetch', sizeBytes: 64e6 },
      { to: 'loras/style.safetensors', action: 'fetch', sizeBytes: 64e6 },
    ],
    python: world.hasPython ? [{ name: 'demo-trainer', from: null, to: '1.0' }] : [],
    processes: [{ name: 'trainer', action: 'start' }],
  })
  expect(plan.estimate).toMatchObject({ downloadBytes: 128e6 })
  expect(world.hub.sentBytes('cdn')).toBeLessThan(1000)
  expect((await status()).run).toBeNull()
})

test('incident A4: apply brings the box to ready, over a mirror where the first source refuses', async () => {
  const { code, stdout } = await agent.agentctl(['apply', world.manifestPath, '--json'])
  expect(code, agent.log()).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ run: { state: 'ready' } })
  for (const [path, hash] of Object.entries(world.hashes))
    expect(await sha256OfFile(join(home, path))).toBe(hash)
  expect(await status()).toMatchObject({
    healthy: true,
    run: { state: 'ready' },
    manifest: { name: 'demo' },
    processes: [{ name: 'trainer', state: 'ready' }],
  })
  expect((await agent.agentctl(['status', '--check'])).code).toBe(0)
})

test('incident A8: applying again fetches no byte, keeps the process, and is ready', async () => {
  const sent = world.hub.sentBytes('cdn')
  const [before] = (await status()).processes
  expect((await agent.agentctl(['apply', world.manifestPath])).code).toBe(0)
  expect(world.hub.sentBytes('cdn')).toBe(sent)
  expect((await status()).processes[0]?.pid).toBe(before?.pid)
})

test('the checkpoint is copied to the remote and pulled home, each with the right hash', async () => {
  expect((await agent.agentctl(['sync', 'checkpoints', '--now'])).code).toBe(0)
  const hash = await sha256OfFile(join(home, 'work/checkpoints/step-100/model.safetensors'))
  expect(await sha256OfFile(join(home, 'remote/step-100/model.safetensors'))).toBe(hash)
  const to = join(home, 'pulled')
  const pulled = await agent.agentctl(['pull-checkpoint', 'latest', '--to', to])
  expect(pulled.code, pulled.stderr).toBe(0)
  expect(await sha256OfFile(join(to, 'step-100/model.safetensors'))).toBe(hash)
  expect((await readdir(to)).sort()).toEqual(['step-100'])
})

test('a killed agent finds its process again, with the same pid and its whole output', async () => {
  const [before] = (await status()).processes
  await agent.kill('SIGKILL')
  agent = await startAgent({ home, env: world.environment })
  await expect.poll(async () => (await status()).healthy, { timeout: 30_000 }).toBe(true)
  expect((await status()).processes[0]).toMatchObject({ pid: before?.pid, state: 'ready' })
  const { stdout } = await agent.agentctl(['logs', 'trainer'])
  expect(stdout).toContain(`step 100 written; serving on ${world.port}`)
})

test('stop ends the process, start brings it back', async () => {
  expect((await agent.agentctl(['stop', 'trainer'])).code).toBe(0)
  expect((await status()).processes[0]).toMatchObject({ state: 'stopped', pid: null })
  expect((await agent.agentctl(['start', 'trainer'])).code).toBe(0)
  await expect.poll(async () => (await status()).processes[0]?.state, { timeout: 30_000 }).toBe('ready')
})

test('T34: no secret is in a log, in the state, in a process’s arguments or in an answer', async () => {
  const planted = 'planted-value-that-is-nowhere-else'
  expect((await agent.agentctl(['secret', 'set', 'PLANTED'], { input: planted })).code).toBe(0)
  const made = await agent.agentctl(['token', 'create', 'made-for-the-sweep', '--scope', 'admin'])
  const local = readFileSync(join(home, 'state/local-token'), 'utf8').trim()
  const secrets = [STRANGER_TOKEN, planted, 'Signature=', ...[local, made.stdout.trim()].map(secretHalf)]

  // Of this box's processes alone: what else the machine runs is not the product's to answer for.
  const argv = (await commandLinesOf(home)).join('\n')
  expect(argv).toContain('agentd.js')
  expect(argv).toContain('demo_trainer')
  const answers = [
    ['events', '--json'],
    ['status', '--json'],
    ['plan', world.manifestPath, '--json'],
    ['runs', '--json'],
    ['models', '--json'],
    ['ps', '--json'],
    ['logs', 'trainer'],
    ['sync', '--json'],
    ['checkpoints', '--json'],
    ['secret', 'ls', '--json'],
    ['token', 'ls', '--json'],
  ].map(async (args) => (await agent.agentctl(args)).stdout)
  const places = new Map([
    ['the log', agent.log()],
    ['argv', argv],
    ['the answers', (await Promise.all(answers)).join('\n')],
  ])
  // Everything the agent ever wrote beside the models: its database, the logs and records of processes, plans.
  for (const folder of ['state', 'run'])
    for (const entry of await readdir(join(home, folder), { recursive: true, withFileTypes: true }))
      if (entry.isFile() && !WHERE_SECRETS_LIE.includes(entry.name)) {
        const path = join(entry.parentPath, entry.name)
        places.set(path, await readFile(path, 'latin1'))
      }
  expect([...places.keys()]).toContain(join(home, 'state/state.db'))
  expect([...places.keys()].some((path) => /\/out\.\d+\.log$/.test(path))).toBe(true)
  const found = [...places].flatMap(([place, text]) =>
    secrets.filter((secret) => text.includes(secret)).map((secret) => `${secret} in ${place}`),
  )
  expect(found).toEqual([])

  const cdn = world.hub.requests.filter((request) => request.at !== 'hub')
  expect(cdn.length).toBeGreaterThan(0)
  expect(cdn.filter((request) => request.authorization !== null)).toEqual([])
})

/** The files whose purpose it is to hold one, each for the agent's user alone. */
const WHERE_SECRETS_LIE = ['local-token', 'secrets.env']
const secretHalf = (token: string): string => token.split('.')[1] ?? token
