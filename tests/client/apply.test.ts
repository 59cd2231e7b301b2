import { writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { RunRecord } from '../../shared/contract/records.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { startFixedBox } from '../support/fixed-box.ts'
import { aPlan, aRun, aStatus } from '../support/fixed-records.ts'

let box: FixedBox
let manifest: string
beforeEach(async () => {
  box = await startFixedBox()
  box.records.run = aRun()
  manifest = join(box.home, 'demo.yaml')
  writeFileSync(manifest, 'version: 1\nname: demo\n')
})
afterEach(() => box.close())

const AT = aStatus().agent.startedAt

const endRun = (change: Partial<RunRecord>): void => {
  box.records.run = aRun({ endedAt: '2026-11-21T10:00:40.000Z', ...change })
  box.addEvent({ at: AT, type: 'run.state', subject: 'r1', data: { state: box.records.run.state } })
}

const streams = (): IncomingMessage['headers'][] =>
  box.requests.filter(({ headers }) => headers.accept === 'text/event-stream').map(({ headers }) => headers)

const waitFor = async (isTrue: () => boolean): Promise<void> => {
  while (!isTrue()) await delay(20)
}

const warning = {
  code: 'unpinned_ref',
  severity: 'warning',
  subject: 'node',
  message: 'main is a branch',
  hint: 'Pin it.',
} as const

test('apply follows the run on standard error and ends with its state', async () => {
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('500.0 kB of 1.0 MB (50 %), 100.0 kB/s, 5 s left')
  endRun({ state: 'ready' })
  const { code, stdout } = await apply.ended
  expect(code).toBe(EXIT.done)
  expect(stdout).toBe('ready demo (run r1) in 40 s\n')
})

test('a run that ends degraded is done, with its problems printed', async () => {
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('has begun')
  endRun({ state: 'degraded', problems: [warning] })
  const { code, stderr } = await apply.ended
  expect(code).toBe(EXIT.done)
  expect(stderr).toContain('warning [unpinned_ref] node: main is a branch\n  try: Pin it.')
})

test('a warning of the plan is told with the plan and at the end, and not as news in between', async () => {
  box.records.appliedPlan = aPlan({ problems: [warning] })
  box.records.run = aRun({ problems: [warning] })
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('5 s left')
  const fresh = { ...warning, subject: 'other node' }
  box.records.run = aRun({ problems: [fresh, warning] })
  await apply.printed('other node')
  endRun({ state: 'degraded', problems: [fresh, warning] })
  const { stderr } = await apply.ended
  expect(stderr.split('[unpinned_ref] node: main is a branch')).toHaveLength(3)
  expect(stderr.split('[unpinned_ref] other node: main is a branch')).toHaveLength(3)
})

test('a run that fails is 1, with its problems and what to do', async () => {
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('has begun')
  endRun({ state: 'failed', problems: [{ ...warning, code: 'gated', severity: 'error' }] })
  const { code, stderr } = await apply.ended
  expect(code).toBe(EXIT.failed)
  expect(stderr).toContain('error [gated] node: main is a branch')
  expect(stderr).toMatch(/error: run r1 failed\ntry: .*\n$/)
})

test.each([
  { state: 'ready', status: EXIT.done },
  { state: 'failed', status: EXIT.failed },
] as const)(
  'with --json one document is printed at the end of a run that is $state',
  async ({ state, status }) => {
    const apply = startAgentctl(['apply', manifest, '--json'], { env: box.env })
    await apply.printed('has begun')
    endRun({ state })
    const { code, stdout } = await apply.ended
    expect(code).toBe(status)
    expect(JSON.parse(stdout)).toEqual({ run: box.records.run })
  },
)

test('--detach returns while the run goes on', async () => {
  const { code, stdout } = await runAgentctl(['apply', manifest, '--detach', '--json'], { env: box.env })
  expect(code).toBe(EXIT.done)
  expect(JSON.parse(stdout)).toEqual({ run: aRun() })
  expect(streams()).toEqual([])
})

test('Ctrl-C detaches: it says that the run goes on and how to cancel it, and exits with 130', async () => {
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('50 %')
  apply.child.kill('SIGINT')
  const { code, stderr } = await apply.ended
  expect(code).toBe(EXIT.interrupted)
  expect(stderr).toMatch(/error: detached; run r1 goes on\ntry: agentctl run cancel r1 stops it/)
  expect(box.requests.some(({ url }) => url.includes('cancel'))).toBe(false)
})

test('--timeout ends the following with 7; the run goes on', async () => {
  const { code, stderr } = await runAgentctl(['apply', manifest, '--timeout', '2s'], { env: box.env })
  expect(code).toBe(EXIT.deadline)
  expect(stderr).toContain('run r1 goes on')
})

test('when the agent restarts, apply goes on after the last event it has seen', async () => {
  box.addEvent({ at: AT, type: 'run.created', subject: 'r0', data: {} })
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('50 %')
  box.addEvent({ at: AT, type: 'download.started', subject: 'a', data: {} })
  await delay(300)
  await box.stop()
  await apply.printed('trying again')
  await box.start()
  await apply.printed('again')
  endRun({ state: 'ready' })
  expect((await apply.ended).code).toBe(EXIT.done)
  expect(streams().map((headers) => headers['last-event-id'])).toEqual(['1', '2'])
})

test('a run that ended while the agent was away is found out', async () => {
  const apply = startAgentctl(['apply', manifest], { env: box.env })
  await apply.printed('50 %')
  await box.stop()
  box.records.run = aRun({ state: 'ready', endedAt: '2026-11-21T10:00:40.000Z' })
  await box.start()
  expect((await apply.ended).code).toBe(EXIT.done)
})

test('events --follow prints one object a line with --json, each event once, across a restart', async () => {
  box.addEvent({ at: AT, type: 'run.created', subject: 'r1', data: {} })
  const events = startAgentctl(['events', '-f', '--json'], { env: box.env })
  await events.printed('run.created')
  await waitFor(() => streams().length === 1)
  box.addEvent({ at: AT, type: 'download.started', subject: 'a', data: {} })
  await events.printed('download.started')
  await box.stop()
  box.addEvent({ at: AT, type: 'download.done', subject: 'a', data: {} })
  await box.start()
  await events.printed('download.done')
  events.child.kill('SIGINT')
  const { code, stdout, stderr } = await events.ended
  expect(code).toBe(EXIT.interrupted)
  expect(stderr).not.toContain('error:')
  const printed = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string })
  expect(printed.map(({ type }) => type)).toEqual(['run.created', 'download.started', 'download.done'])
})

test('logs --follow goes on at the byte where it was when the agent restarts', async () => {
  box.records.logs = 'one\n'
  const logs = startAgentctl(['logs', '-f', 'comfyui'], { env: box.env })
  await logs.printed('one')
  await box.stop()
  box.records.logs = 'one\ntwo\n'
  await box.start()
  await logs.printed('two')
  logs.child.kill('SIGINT')
  const { code, stdout } = await logs.ended
  expect(code).toBe(EXIT.interrupted)
  expect(stdout).toBe('one\ntwo\n')
})
