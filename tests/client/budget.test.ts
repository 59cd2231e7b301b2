import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BudgetRow } from '../../shared/contract/records.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { startFixedBox } from '../support/fixed-box.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { aStatus } from '../support/fixed-records.ts'

const row = (change: Partial<BudgetRow> = {}): BudgetRow => ({
  state: 'warning',
  spentUsd: 16.4,
  limitUsd: 20,
  rateUsdPerHour: 0.89,
  hoursUsed: 18.427,
  limitHours: null,
  stopAt: '2026-11-22T13:51:03.000Z',
  onLimit: 'stop',
  idle: { afterSeconds: 1_800, idleSeconds: 0, busy: ['process train is a job that runs'] },
  problem: null,
  ...change,
})

let box: FixedBox
beforeAll(async () => {
  box = await startFixedBox()
})
afterAll(() => box.close())
const agentctl = (...args: string[]) => runAgentctl(args, { env: box.env })

test('budget says what the box costs, when it is stopped and why it is not idle', async () => {
  box.records.status = { ...aStatus(), budget: row() }
  const { code, stdout } = await agentctl('budget')
  expect(code).toBe(0)
  expect(stdout).toBe(
    [
      'state     warning',
      'spent     $16.40 of $20.00',
      'price     $0.89 an hour',
      'time      18.4 h',
      'at limit  the box is stopped; it would stop 2026-11-22 13:51:03Z',
      'idle      no, 30 min count as a limit',
      '          process train is a job that runs',
      '',
    ].join('\n'),
  )
  expect((await agentctl('status')).stdout).toContain(
    'budget    warning $16.40 of $20.00, 18.4 h, would stop 2026-11-22 13:51:03Z',
  )
})

test('incident B4: a budget without limits says so', async () => {
  box.records.status = {
    ...aStatus(),
    budget: row({ state: 'ok', limitUsd: null, stopAt: null, idle: null }),
  }
  expect((await agentctl('status')).stdout).toMatch(/^budget +ok \$16\.40, no limit, 18\.4 h$/m)
  expect((await agentctl('budget')).stdout).toMatch(/^at limit +nothing: no limit$/m)
  expect(JSON.parse((await agentctl('budget', '--json')).stdout)).toEqual({
    budget: box.records.status.budget,
  })
})

test.each([
  [['budget', 'extend', 'lots'], 'lots is neither time nor money'],
  [['budget', 'extend'], 'extend by how much?'],
  [['budget', 'shrink', '2h'], 'there is no budget shrink'],
])('%j is a wrong command line', async (args, message) => {
  const { code, stderr } = await agentctl(...args)
  expect(code).toBe(2)
  expect(stderr).toContain(message)
})
