import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { createBudgetStore } from '../../agent/budget/memory.ts'
import { openDatabase } from '../../agent/platform/database.ts'
import { readMoment } from '../../agent/platform/moment.ts'
import type { Problem, StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { FAKE_KEY, startProviders } from '../support/providers/fake-providers.ts'
import type { ProviderServer } from '../support/providers/fake-providers.ts'
import type { Machine } from '../support/providers/machines.ts'
import type { WebhookServer } from '../support/webhook-server.ts'
import { startWebhookServer } from '../support/webhook-server.ts'

/* Money that was lost on rented boxes, as a user of agentd and agentctl meets it now. The provider keeps its own books. */

let providers: ProviderServer
let webhook: WebhookServer
let machine: Machine
const homes: string[] = []
const agents: AgentProcess[] = []
beforeAll(async () => {
  // Several agents stand for one box here, one after the other: its calls come closer than one agent’s would.
  providers = await startProviders({ intervals: false })
  webhook = await startWebhookServer()
  machine = providers.machines.make({
    provider: 'vast',
    label: 'box',
    image: 'image',
    onStart: '',
    diskGb: 100,
    gpu: 'RTX 4090',
    gpuCount: 1,
    env: {},
    usdPerHour: 0.4,
    storageUsdPerHour: 0.02,
    isBid: false,
  })
})
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.kill('SIGKILL')
})
afterAll(async () => {
  for (const home of homes) await removeHome(home)
  await Promise.all([providers.close(), webhook.close()])
})

/** An agent on the rented box, or (with key null) on a machine of nobody that is known. */
const startBox = async (options: { key?: string | null; home?: string } = {}): Promise<AgentProcess> => {
  const { key = FAKE_KEY, home = makeHome() } = options
  if (!homes.includes(home)) homes.push(home)
  const { VAST_ENDPOINT = '' } = providers.environment
  const agent = await startAgent({
    home,
    env: {
      AGENT_ALLOW_HOSTS: webhook.allowHost,
      WEBHOOK: webhook.url,
      ...(key === null ? {} : { VAST_ENDPOINT, CONTAINER_ID: machine.id, CONTAINER_API_KEY: key }),
    },
  })
  agents.push(agent)
  return agent
}

const write = (agent: AgentProcess, part: Readonly<Record<string, unknown>>): string => {
  const file = join(agent.home, 'box.yaml')
  writeFileSync(file, JSON.stringify({ version: 1, name: 'box', ...part }))
  return file
}
const problemsOf = (stdout: string): readonly Problem[] =>
  (JSON.parse(stdout) as { error: { problems: Problem[] } }).error.problems
const status = async (agent: AgentProcess): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord
const until = async (isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await isTrue()) return
    await delay(100)
  }
  throw new Error('it did not become true')
}

test('incident C1: a shutdown command that is an echo, or nothing at all, is refused before anything is done', async () => {
  const agent = await startBox({ key: null })
  const echo = await agent.agentctl([
    'apply',
    write(agent, { budget: { max_hours: 2, stop: { command: ['echo', 'shutting down'] } } }),
    '--json',
  ])
  expect(echo.code).toBe(3)
  expect(problemsOf(echo.stdout)).toMatchObject([
    {
      code: 'no_way_to_stop',
      message: 'budget.stop.command (echo shutting down) stops nothing',
      at: { line: 1 },
    },
  ])
  const nothing = await agent.agentctl(['apply', write(agent, { budget: { idle_after: '30m' } }), '--json'])
  expect(nothing.code).toBe(3)
  expect(problemsOf(nothing.stdout)).toContainEqual(expect.objectContaining({ code: 'no_way_to_stop' }))

  // Incident B4 on the same box: without a limit nothing has to be stopped, and status says that there is none.
  expect((await agent.agentctl(['apply', write(agent, { budget: { max_cost_usd: 0 } })])).code).toBe(0)
  expect((await agent.agentctl(['status'])).stdout).toMatch(/^budget +ok cost unknown, no limit/m)
  expect((await status(agent)).budget).toMatchObject({ limitUsd: null, limitHours: null, stopAt: null })
})

test('incident C1: a key that the provider refuses is found before the run, by a write that changes nothing', async () => {
  const agent = await startBox({ key: 'not-a-key-of-this-box' })
  const manifest = write(agent, { budget: { max_hours: 2 } })
  const plan = await agent.agentctl(['plan', manifest, '--json'])
  expect(plan.code).toBe(0)
  expect((JSON.parse(plan.stdout) as { unchecked: string[] }).unchecked).toEqual([
    expect.stringContaining(`whether vast instance ${machine.id} can be stopped`),
  ])
  const apply = await agent.agentctl(['apply', manifest, '--json'])
  expect(apply.code).toBe(3)
  expect(problemsOf(apply.stdout)).toMatchObject([{ code: 'no_way_to_stop', subject: 'budget' }])
  expect(providers.calls.filter(({ kind }) => kind === 'stop')).toEqual([])
  expect(providers.machines.find(machine.id)?.state).toBe('running')
})

test('a limit is announced to the webhook, an extension takes it back, and a stop that was begun ends the billing', async () => {
  const agent = await startBox()
  const manifest = write(agent, { budget: { max_hours: 0.001 }, notify: { webhook: '${WEBHOOK}' } })
  expect((await agent.agentctl(['apply', manifest])).code).toBe(0)
  await until(() => webhook.taken.some(({ text }) => String(text).endsWith('is ready')))
  await agent.kill('SIGKILL')

  const second = await startBox({ home: agent.home })
  await until(async () => (await status(second)).budget?.state === 'stopping')
  const { budget } = await status(second)
  expect(budget).toMatchObject({ rateUsdPerHour: 0.4, limitHours: 0.001 })
  expect(Date.parse(budget?.stopAt ?? '')).toBeGreaterThan(Date.now())
  await until(() => webhook.taken.some(({ text }) => String(text).includes('the box is stopped at')))
  const extended = await second.agentctl(['budget', 'extend', '1h'])
  expect(extended.stdout).toMatch(/^time +0\.0 h of 1 h$/m)
  await until(async () => (await status(second)).budget?.state !== 'stopping')
  await until(() => webhook.taken.some(({ text }) => String(text).includes('was called off')))
  expect(providers.ledger.burning()).toEqual([machine.id])
  await second.kill('SIGKILL')

  // As an agent leaves it that is killed after the final sync: the limit holds, the intent is on disk.
  const { db } = openDatabase(join(agent.home, 'state'))
  const store = createBudgetStore(db)
  const at = new Date().toISOString()
  store.save({ ...store.load(), extendedMs: 0, intent: { boot: readMoment().boot, reason: 'hours', at } })
  db.close()
  const third = await startBox({ home: agent.home })
  await until(() => providers.ledger.burning().length === 0)
  await until(async () => (await status(third)).budget?.state === 'stopped')
  expect((await third.agentctl(['budget'])).stdout).toMatch(/^state +stopped$/m)
  expect(providers.calls.filter(({ kind }) => kind === 'destroy')).toEqual([])
  expect(third.log() + (await third.agentctl(['events', '--json'])).stdout).not.toContain('SECRET-PATH')
  providers.machines.start(machine)
})

test('T49, T50: a checkpoint that was written just before the box vanished is on the remote, whole; SIGTERM leaves the state sound', async () => {
  const agent = await startBox()
  const [folder, remote] = [join(agent.home, 'outputs'), join(agent.home, 'remote')]
  mkdirSync(join(folder, 'checkpoint-100'), { recursive: true })
  mkdirSync(remote)
  const sync = [
    { name: 'checkpoints', path: folder, to: remote, settle: '1s', complete_marker: 'trainer_state.json' },
  ]
  expect((await agent.agentctl(['apply', write(agent, { sync })])).code).toBe(0)
  const weights = randomBytes(3_000_000)
  writeFileSync(join(folder, 'checkpoint-100', 'weights.bin'), weights)
  writeFileSync(join(folder, 'checkpoint-100', 'trainer_state.json'), '{"global_step":100}')
  await until(() => existsSync(join(remote, '.gpu-agent', 'checkpoint-100.json')))
  // Five seconds, as a provider gives them that gives any.
  const killer = setTimeout(() => agent.child.kill('SIGKILL'), 5_000)
  await agent.kill('SIGTERM')
  clearTimeout(killer)
  expect(agent.child.exitCode).toBe(0)
  const copy = readFileSync(join(remote, 'checkpoint-100', 'weights.bin'))
  expect(createHash('sha256').update(copy).digest('hex')).toBe(
    createHash('sha256').update(weights).digest('hex'),
  )
  const { db, quarantined } = openDatabase(join(agent.home, 'state'))
  expect(quarantined).toBeUndefined()
  expect(createBudgetStore(db).load().seen?.boot).toBe(readMoment().boot)
  db.close()
})
