import { expect, test } from 'vitest'
import type { RentedBox } from '../../support/budget/rented-box.ts'
import { gpuMs, rentBox } from '../../support/budget/rented-box.ts'

/* What the provider billed is the truth here; what agentd says of itself only explains it. */

const MIN = 60_000
const HOUR = 60 * MIN
const budget = (part: Readonly<Record<string, unknown>>) => ({ on_limit: 'stop' as const, ...part })
const isBurning = ({ fake, machine }: RentedBox): boolean => fake.ledger.burning().includes(machine.id)
const told = (box: RentedBox): readonly string[] => box.events.map(({ type }) => type)
const stopCalls = ({ fake }: RentedBox): number => fake.calls.filter(({ kind }) => kind === 'stop').length

test.each(['vast', 'runpod'] as const)(
  'a limit of hours ends the billing at %s after an announcement and a final sync',
  async (provider) => {
    const box = rentBox({ budget: budget({ max_hours: 2 }), provider })
    await box.pass(2 * HOUR - 6 * MIN)
    expect(told(box)).toEqual(['budget.warning', 'budget.warning'])
    await box.pass(2 * MIN)
    expect(box.budget()?.row()).toMatchObject({ state: 'stopping', limitHours: 2 })
    await box.pass(2 * MIN)
    expect(isBurning(box)).toBe(true)
    await box.pass(5 * MIN)
    expect(isBurning(box)).toBe(false)
    expect(gpuMs(box)).toBeGreaterThanOrEqual(2 * HOUR)
    expect(gpuMs(box)).toBeLessThan(2 * HOUR + 3 * MIN)
    expect(told(box)).toEqual([
      'budget.warning',
      'budget.warning',
      'budget.stop-announced',
      'budget.limit-reached',
      'budget.stopping',
      'budget.final-sync',
      'budget.stopped',
    ])
    expect(box.fake.calls.filter(({ kind }) => kind === 'destroy')).toEqual([])
  },
)

test('a limit of money is one of the provider’s price, and each warning comes once over restarts of the agent', async () => {
  const box = rentBox({ budget: budget({ max_cost_usd: 3, rate_usd_per_hour: 99 }), usdPerHour: 1 })
  for (let hour = 0; hour < 3; hour += 1) {
    await box.pass(HOUR - 2 * MIN)
    box.killAgent()
    await box.pass(2 * MIN)
    box.startAgent()
  }
  await box.pass(10 * MIN)
  expect(isBurning(box)).toBe(false)
  expect(box.fake.ledger.usd(box.machine.id)).toBeGreaterThan(2.99)
  expect(box.fake.ledger.usd(box.machine.id)).toBeLessThan(3.2)
  expect(told(box).filter((type) => type === 'budget.warning')).toHaveLength(2)
})

test('incident B4: a limit of 0 or less is no limit', async () => {
  const box = rentBox({ budget: budget({ max_cost_usd: 0, max_hours: -1, idle_after: 0 }) })
  await box.pass(48 * HOUR)
  expect(isBurning(box)).toBe(true)
  expect(box.events).toEqual([])
  expect(box.budget()?.row()).toMatchObject({
    state: 'ok',
    limitUsd: null,
    limitHours: null,
    stopAt: null,
    idle: null,
  })
})

test('on_limit: notify tells and stops nothing', async () => {
  const box = rentBox({
    budget: { on_limit: 'notify', max_hours: 1, idle_after: 20 * MIN },
  })
  await box.pass(5 * HOUR)
  expect(isBurning(box)).toBe(true)
  expect(stopCalls(box)).toBe(0)
  expect(told(box)).toEqual(['budget.idle', 'budget.warning', 'budget.warning', 'budget.limit-reached'])
})

test('an extension takes an announced stop back, and the time it gives is given', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }) })
  await box.pass(57 * MIN)
  expect(box.budget()?.row().state).toBe('stopping')
  box.budget()?.extend({ ms: HOUR })
  await box.pass(MIN)
  expect(box.budget()?.row()).toMatchObject({ state: 'ok', limitHours: 2 })
  expect(told(box).at(-1)).toBe('budget.stop-cancelled')
  await box.pass(30 * MIN)
  expect(isBurning(box)).toBe(true)
  await box.pass(40 * MIN)
  expect(isBurning(box)).toBe(false)
})

test('an extension of what has no limit says what could be extended', async () => {
  const box = rentBox({ budget: budget({ max_cost_usd: 5 }), usdPerHour: 0.5 })
  await box.pass(MIN)
  expect(() => box.budget()?.extend({ ms: 2 * HOUR })).toThrow(
    'the budget has no max_hours that could be extended',
  )
  expect(() =>
    rentBox({ budget: budget({ max_hours: 5 }) })
      .budget()
      ?.extend({ usd: 5 }),
  ).toThrow('no max_cost_usd')
})

test('T46: a box with a job, a download, an open page or a GPU that cannot be asked is not stopped for idleness', async () => {
  const box = rentBox({ budget: budget({ idle_after: 10 * MIN }) })
  for (const why of [
    'process train is a job that runs',
    'download a is downloading',
    'the page of comfyui is open',
  ]) {
    box.busy = () => [why]
    await box.pass(HOUR)
    expect(box.budget()?.row().idle?.busy).toEqual([why])
  }
  box.busy = () => {
    throw new Error('nvidia-smi does not answer')
  }
  await box.pass(HOUR)
  expect(box.budget()?.row().idle?.busy).toEqual([
    'the world cannot be told, which counts as busy: nvidia-smi does not answer',
  ])
  expect(told(box)).toEqual([])
  expect(isBurning(box)).toBe(true)
  box.busy = () => []
  await box.pass(30 * MIN)
  expect(isBurning(box)).toBe(false)
})

test('T46: work that begins after the announcement, or in the final sync, calls the stop off', async () => {
  const box = rentBox({ budget: budget({ idle_after: 20 * MIN }) })
  await box.pass(22 * MIN)
  expect(box.budget()?.row().state).toBe('stopping')
  box.busy = () => ['run r1 is provisioning']
  await box.pass(MIN)
  expect(box.budget()?.row().state).toBe('ok')
  box.busy = () => []
  box.flushMs = 2 * MIN
  await box.pass(26 * MIN)
  expect(told(box).at(-1)).toBe('budget.stopping')
  box.busy = () => ['run r2 is planning']
  await box.pass(10 * MIN)
  expect(stopCalls(box)).toBe(0)
  expect(isBurning(box)).toBe(true)
  expect(told(box).filter((type) => type === 'budget.stop-cancelled')).toHaveLength(2)
})

test.each([
  ['401', { on: 'stop', does: { kind: 'answer', status: 401, body: '{"msg":"Invalid API key"}' } }],
  ['500', { on: 'stop', does: { kind: 'answer', status: 500 } }],
  [
    '429 in plain text',
    { on: 'stop', does: { kind: 'answer', status: 429, body: 'API requests too frequent' } },
  ],
  ['success but still running', { on: 'stop', does: { kind: 'ignored' } }],
  ['garbage', { on: 'show', does: { kind: 'garbage' } }],
] as const)(
  'T47: a stop answered with %s is tried again until the billing has ended, with one intent',
  async (_, fault) => {
    const box = rentBox({ budget: budget({ max_hours: 1 }), stopMs: fault.on === 'show' ? 'ignored' : 5_000 })
    await box.pass(50 * MIN)
    box.fake.fault(fault)
    await box.pass(HOUR)
    expect(isBurning(box)).toBe(true)
    expect(box.budget()?.row()).toMatchObject({ state: 'stop-failed', problem: { code: 'stop_failed' } })
    expect(box.errors[0]).toContain(`vast instance ${box.machine.id} is not stopped`)
    const intent = box.memory().intent
    expect(intent).toMatchObject({ reason: 'hours' })
    expect(told(box).filter((type) => type === 'budget.stop-announced')).toHaveLength(1)
    // Loud, and not more often than it helps.
    expect(told(box).filter((type) => type === 'budget.stop-failed').length).toBeLessThanOrEqual(3)
    box.killAgent()
    box.startAgent()
    await box.pass(5 * MIN)
    expect(box.memory().intent).toEqual(intent)
    box.fake.clearFaults()
    box.machine.behaviour = { stopMs: 5_000 }
    await box.pass(5 * MIN)
    expect(isBurning(box)).toBe(false)
  },
)

test('T47: a provider that cannot be reached, or never answers, is called until it can', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }) })
  await box.pass(50 * MIN)
  box.network = 'hangs'
  await box.pass(HOUR)
  expect(box.budget()?.row().state).toBe('stop-failed')
  box.network = 'refuses'
  await box.pass(HOUR)
  expect(isBurning(box)).toBe(true)
  box.network = 'works'
  await box.pass(4 * MIN)
  expect(isBurning(box)).toBe(false)
})

test('the instance’s own key, which may not read, stops the box; a stop that is not carried out is not believed', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }), key: 'own' })
  await box.pass(70 * MIN)
  expect(isBurning(box)).toBe(false)
  const deaf = rentBox({ budget: budget({ max_hours: 1 }), key: 'own', stopMs: 'ignored' })
  await deaf.pass(70 * MIN)
  expect(deaf.budget()?.row().state).toBe('stop-failed')
})

test('T48: a boot after an automatic stop takes the intent back, and has 15 minutes before it stops again', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }) })
  await box.pass(70 * MIN)
  expect(isBurning(box)).toBe(false)
  expect(box.memory().intent).toMatchObject({ reason: 'hours' })
  await box.pass(3 * HOUR)
  const calls = stopCalls(box)
  await box.startMachine()
  expect(box.memory().intent).toBeNull()
  await box.pass(14 * MIN)
  expect(box.budget()?.row().state).toBe('warning')
  expect(stopCalls(box)).toBe(calls)
  box.budget()?.extend({ ms: HOUR })
  await box.pass(30 * MIN)
  expect(isBurning(box)).toBe(true)
  await box.pass(HOUR)
  expect(isBurning(box)).toBe(false)
  // Time in which it was stopped is no time that it ran.
  expect(gpuMs(box)).toBeLessThan(2 * HOUR + 10 * MIN)
})

test('T48: an agent that is killed in the middle of the stop goes on with it', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }) })
  box.network = 'refuses'
  await box.pass(62 * MIN)
  expect(box.memory().intent).toMatchObject({ reason: 'hours' })
  box.killAgent()
  await box.pass(10 * MIN)
  expect(isBurning(box)).toBe(true)
  box.network = 'works'
  box.startAgent()
  await box.pass(MIN)
  expect(isBurning(box)).toBe(false)
  expect(told(box).filter((type) => type === 'budget.final-sync')).toHaveLength(1)
})

test('T27: a wall clock that is set forward by a month, or back, moves no limit', async () => {
  const box = rentBox({ budget: budget({ max_hours: 2 }) })
  await box.pass(HOUR)
  box.wallSkewMs = 30 * 24 * HOUR
  await box.pass(10 * MIN)
  box.killAgent()
  box.wallSkewMs = -2 * HOUR
  box.startAgent()
  await box.pass(40 * MIN)
  expect(isBurning(box)).toBe(true)
  expect(box.budget()?.row().hoursUsed).toBeCloseTo(11 / 6, 2)
  await box.pass(15 * MIN)
  expect(isBurning(box)).toBe(false)
})

test('a final sync that does not end does not keep the box running', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1 }) })
  box.flushMs = 10 * HOUR
  await box.pass(65 * MIN)
  expect(isBurning(box)).toBe(false)
  expect(box.errors.join()).toContain('the final sync failed')
})

test('a box that nothing can stop says so on every channel', async () => {
  const box = rentBox({ budget: budget({ max_hours: 1, rate_usd_per_hour: 1 }), provider: 'nobody' })
  await box.pass(70 * MIN)
  expect(box.budget()?.row()).toMatchObject({ state: 'stop-failed', problem: { code: 'no_way_to_stop' } })
  expect(told(box).at(-1)).toBe('budget.stop-failed')
  expect(box.errors).not.toEqual([])
})
