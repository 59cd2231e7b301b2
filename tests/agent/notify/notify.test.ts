import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createJournal } from '../../../agent/apply/journal.ts'
import { sayEvent } from '../../../agent/notify/messages.ts'
import { createNotify } from '../../../agent/notify/notify.ts'
import { createPostJson } from '../../../agent/platform/post-json.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import { DEFAULT_ENDPOINTS } from '../../../shared/sources/endpoints.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'
import { createScaledClock } from '../../support/scaled-clock.ts'
import type { WebhookServer } from '../../support/webhook-server.ts'
import { startWebhookServer } from '../../support/webhook-server.ts'

let server: WebhookServer
let opened: ReturnType<typeof openTestDatabase>
let logged: string[]
const running: { readonly life: AbortController; readonly ended: Promise<void> }[] = []
beforeEach(async () => {
  server = await startWebhookServer()
  opened = openTestDatabase()
  logged = []
})
afterEach(async () => {
  for (const { life, ended } of running.splice(0)) {
    life.abort(new Error('the test is over'))
    await ended
  }
  await server.close()
  opened.close()
})

const failed = (id: string): AgentEvent => ({
  type: 'run.state',
  subject: id,
  data: {
    to: 'failed',
    problems: [{ code: 'gated', severity: 'error', subject: 'a', message: 'is gated', hint: '' }],
  },
})

const start = (allowHosts: readonly string[] = [server.allowHost]) => {
  // Minutes of retries in some seconds.
  const clock = createScaledClock(200)
  const journal = createJournal({ db: opened.db, clock, redact: (text) => text, onFailure: () => undefined })
  const policy = { endpoints: DEFAULT_ENDPOINTS, allowHosts }
  const keep = (message: string, fields?: object): void =>
    void logged.push(message + JSON.stringify(fields ?? {}))
  const notify = createNotify({
    db: opened.db,
    clock,
    journal,
    policy,
    report: journal.append,
    log: { info: keep, warn: keep, error: keep },
    post: createPostJson(policy),
    box: { id: 'b1', hostname: 'gpu-7' },
  })
  const life = new AbortController()
  const ended = notify.service.run(life.signal).catch(() => undefined)
  running.push({ life, ended })
  return { journal, notify, stop: async () => (life.abort(new Error('stopped')), ended) }
}

const until = async (isTrue: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 1_500 && !isTrue(); tries += 1) await delay(20)
  expect(isTrue()).toBe(true)
}
const texts = (): unknown[] => server.taken.map(({ text }) => text)

test('a failed run is told with a sentence for people and fields for programs, and the address is nowhere', async () => {
  const { journal, notify } = start()
  journal.append(failed('before'))
  notify.configure(server.url)
  journal.append({ type: 'download.started', subject: 'a' })
  journal.append(failed('r1'))
  await until(() => server.taken.length === 1)
  expect(server.taken[0]).toMatchObject({
    text: 'gpu-7: run r1 failed:\n• a: is gated',
    severity: 'error',
    box: { id: 'b1', hostname: 'gpu-7' },
    event: { type: 'run.state', subject: 'r1' },
  })
  expect(JSON.stringify(server.taken) + logged.join()).not.toContain('SECRET-PATH')
})

test('what no remote has as the box stops is told as an error, with its names and its size', async () => {
  const { journal, notify } = start()
  notify.configure(server.url)
  const sync = (data: Record<string, unknown>): void =>
    journal.append({ type: 'budget.final-sync', subject: 'budget', data })
  sync({ stored: 3, left: [], leftBytes: 0, problems: [] })
  sync({ stored: 0, left: [{ unit: 'checkpoint-7', sizeBytes: 159e6 }], leftBytes: 159e6, problems: [] })
  await until(() => server.taken.length === 1)
  expect(server.taken[0]).toMatchObject({
    text: 'gpu-7: 159.0 MB are on no remote as the box stops, and only on its disk: checkpoint-7',
    severity: 'error',
  })
})

test('an answer of 500, a broken connection and a plea for patience are tried again; nothing is lost and the order is kept', async () => {
  const { journal, notify } = start()
  notify.configure(server.url)
  server.answerNext({ status: 500 }, 'drop', { status: 429, headers: { 'retry-after': '20' } })
  journal.append(failed('r1'))
  journal.append(failed('r2'))
  await until(() => server.taken.length === 2)
  expect(server.calls).toEqual([500, 0, 429, 200, 200])
  expect(texts()).toEqual([expect.stringContaining('r1'), expect.stringContaining('r2')])
  expect(notify.problem()).toBeNull()
})

test('a message that is refused for good is given up at once, and status says why until the next one arrives', async () => {
  const { journal, notify } = start()
  notify.configure(server.url)
  server.answerNext({ status: 404 }, { status: 302, headers: { location: 'http://169.254.169.254/' } })
  journal.append(failed('r1'))
  journal.append(failed('r2'))
  await until(() => server.calls.length === 2)
  await until(() => notify.problem()?.message.includes('302') === true)
  expect(notify.problem()).toMatchObject({
    code: 'notify_failed',
    severity: 'warning',
    message: `the webhook did not take a message: ${server.allowHost} answered 302`,
  })
  expect(JSON.stringify(journal.read(0, 100)) + logged.join()).not.toContain('SECRET-PATH')
  journal.append(failed('r3'))
  await until(() => server.taken.length === 1)
  expect(texts()[0]).toContain('(2 earlier messages were dropped)')
  expect(notify.problem()).toBeNull()
})

test('what was not delivered when the agent was killed is delivered by the next one, and nothing twice', async () => {
  const first = start()
  first.notify.configure(server.url)
  first.journal.append(failed('r1'))
  await until(() => server.taken.length === 1)
  await until(() => cursor() >= 1)
  server.answerNext('hang')
  first.journal.append(failed('r2'))
  await until(() => server.calls.length === 2)
  await first.stop()
  const second = start()
  second.notify.configure(server.url)
  await until(() => server.taken.length === 2)
  expect(texts()).toEqual([expect.stringContaining('r1'), expect.stringContaining('r2')])
})
const cursor = (): number => Number(opened.db.prepare('SELECT event_id FROM notified').pluck().get() ?? 0)

test('a webhook that is away for long gets the newest fifty, and is told how many were dropped', async () => {
  const { journal, notify } = start()
  notify.configure(server.url)
  for (let index = 0; index < 120; index += 1) journal.append(failed(`r${index}`))
  await until(() => server.taken.length === 50)
  expect(texts()[0]).toContain('run r70 failed')
  expect(texts()[0]).toContain('(70 earlier messages were dropped)')
  expect(texts()[49]).toContain('run r119 failed')
})

test('a private address is refused before anything is sent, at plan time and when it is called', async () => {
  const { journal, notify } = start([])
  expect(notify.check(server.url)).toMatchObject([
    { code: 'forbidden_address', severity: 'error', subject: 'notify' },
  ])
  expect(notify.check('https://hooks.slack.com/services/x')).toEqual([])
  expect(notify.check('not-an-address')).toMatchObject([{ code: 'bad_request' }])
  notify.configure(server.url)
  journal.append(failed('r1'))
  await until(() => notify.problem() !== null)
  expect(server.calls).toEqual([])
})

test('nobody is told when the manifest names no webhook any more', async () => {
  const { journal, notify } = start()
  notify.configure(server.url)
  notify.configure(null)
  journal.append(failed('r1'))
  notify.configure(server.url)
  journal.append(failed('r2'))
  await until(() => server.taken.length === 1)
  expect(texts()[0]).toContain('r2')
})

test.each([
  ['run.state', { to: 'ready' }, 'run x is ready'],
  ['run.state', { to: 'provisioning' }, undefined],
  ['process.state', { state: 'crash-looping' }, 'process x is crash-looping: agentctl logs x'],
  ['process.state', { state: 'ready' }, undefined],
  ['sync.recovered', { failures: 3 }, 'sync x works again'],
  [
    'budget.warning',
    { percent: 80, spentUsd: 16, limitUsd: 20, hoursUsed: 3 },
    '80 % of the budget is used: $16.00 of $20.00, 3.0 h',
  ],
  ['budget.stop-failed', { problem: 'odd' }, 'THE BOX COULD NOT BE STOPPED'],
  ['download.done', {}, undefined],
] as const)('%s %j says: %s', (type, data, text) => {
  const said = sayEvent({ id: 1, at: '2026-11-01T00:00:00Z', type, subject: 'x', data })
  if (text === undefined) expect(said).toBeUndefined()
  else expect(said?.text).toContain(text)
})
