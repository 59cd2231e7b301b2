import { expect, test } from 'vitest'
import { busyGpus, busySyncs } from '../../../agent/budget/evidence.ts'
import { idleForMs, lookAgain, NOT_LOOKED } from '../../../agent/budget/idle.ts'
import { timeLeft } from '../../../agent/budget/limits.ts'
import { createBudgetStore, newMemory } from '../../../agent/budget/memory.ts'
import { addStretch, elapsed, measure } from '../../../agent/budget/meter.ts'
import type { Stretch } from '../../../agent/budget/meter.ts'
import { createOpenWork } from '../../../agent/budget/open-work.ts'
import type { Moment } from '../../../agent/platform/moment.ts'
import { readMoment } from '../../../agent/platform/moment.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'
import { aStatus } from '../../support/fixed-records.ts'

const MIN = 60_000
const HOUR = 60 * MIN
const moment = (part: Partial<Moment>): Moment => ({
  kernel: 'k1',
  boot: 'b1',
  uptimeMs: 10 * HOUR,
  bootUptimeMs: HOUR,
  wallMs: 1_000 * HOUR,
  ...part,
})

test('the meter begins with the agent: nothing before its first look', () => {
  expect(elapsed(null, moment({}))).toEqual([])
})

test('within one boot the kernel’s time counts, whatever the wall clock says', () => {
  const later = moment({ uptimeMs: 11 * HOUR, wallMs: 0 })
  expect(elapsed(moment({}), later)).toEqual([{ kind: 'running', ms: HOUR }])
})

test.each([
  ['a container that was away for 5 minutes was restarted', 5, 'running'],
  ['a container that was away for 3 hours was stopped', 180, 'stopped'],
] as const)('%s, by the time of the kernel that ran on', (_, awayMin, kind) => {
  const bootUptimeMs = 10 * HOUR + awayMin * MIN
  const now = moment({ boot: 'b2', bootUptimeMs, uptimeMs: bootUptimeMs + MIN, wallMs: 0 })
  expect(elapsed(moment({}), now)).toEqual([
    { kind, ms: awayMin * MIN },
    { kind: 'running', ms: MIN },
  ])
})

test('a new kernel: the wall clock says how long the box was away, and a clock that went back says nothing', () => {
  const now = moment({ kernel: 'k2', boot: 'b2', bootUptimeMs: 0, uptimeMs: MIN, wallMs: 1_002 * HOUR })
  expect(elapsed(moment({}), now)).toEqual([
    { kind: 'stopped', ms: 2 * HOUR - MIN },
    { kind: 'running', ms: MIN },
  ])
  expect(elapsed(moment({}), { ...now, wallMs: 900 * HOUR })[0]?.ms).toBe(0)
})

test('time of one price is one stretch, and hundreds of prices keep their sum', () => {
  let stretches: readonly Stretch[] = []
  let usd = 0
  for (let index = 0; index < 1_000; index += 1) {
    const usdPerHour = 0.5 + (index % 400) / 1_000
    stretches = addStretch(stretches, { kind: 'running', ms: MIN, usdPerHour })
    usd += usdPerHour / 60
  }
  expect(stretches.length).toBeLessThanOrEqual(100)
  expect(measure(stretches, { running: 9, stopped: 9 }).spentUsd).toBeCloseTo(usd, 6)
})

test('time whose price was not known counts at the first price that is; without any the cost is unknown', () => {
  const stretches: readonly Stretch[] = [
    { kind: 'running', ms: HOUR, usdPerHour: null },
    { kind: 'stopped', ms: 2 * HOUR, usdPerHour: 0.05 },
  ]
  expect(measure(stretches, { running: null, stopped: null })).toEqual({ spentUsd: null, usedMs: HOUR })
  expect(measure(stretches, { running: 0.9, stopped: null }).spentUsd).toBeCloseTo(1, 9)
})

test('incident B4: without limits there is no time left to count', () => {
  const measured = { spentUsd: 1e6, usedMs: 1e12 }
  expect(timeLeft({ costUsd: null, ms: null }, { measured, usdPerHour: 1 })).toBeNull()
})

test('the first limit counts, and one that is passed is reached now', () => {
  const measured = { spentUsd: 4, usedMs: 2 * HOUR }
  expect(timeLeft({ costUsd: 5, ms: 10 * HOUR }, { measured, usdPerHour: 2 })).toEqual({
    kind: 'cost',
    ms: HOUR / 2,
  })
  expect(timeLeft({ costUsd: 3, ms: null }, { measured, usdPerHour: null })).toEqual({ kind: 'cost', ms: 0 })
})

test('a hole in the looks begins the idle window anew', () => {
  const looks = [0, 1, 2, 10, 11].map((min) => min * MIN)
  const window = looks.reduce((before, nowMs) => lookAgain(before, { busy: [], nowMs }), NOT_LOOKED)
  expect(idleForMs(window)).toBe(MIN)
  expect(idleForMs(lookAgain(window, { busy: ['a job runs'], nowMs: 12 * MIN }))).toBe(0)
})

test('T46: GPUs that are not told, or of which one works, are busy', () => {
  expect(busyGpus(null)).toHaveLength(1)
  expect(busyGpus([])).toHaveLength(1)
  expect(busyGpus([0, null])).toEqual(['the load of GPU 1 is not told, which counts as busy'])
  expect(busyGpus([4, 37])).toEqual(['GPU 1 is 37 % busy'])
  expect(busyGpus([4, 0])).toEqual([])
})

test('a sync that fails for long does not keep the box, one that copies does', () => {
  const row = (state: 'failing' | 'copying' | 'idle') => aStatus().sync.map((sync) => ({ ...sync, state }))
  expect(busySyncs(row('copying'))).toHaveLength(1)
  expect(busySyncs([...row('failing'), ...row('idle')])).toEqual([])
})

test('what was used through the API counts for a moment longer, so that no request falls between two looks', () => {
  let nowMs = 0
  const work = createOpenWork({ monotonicMs: () => nowMs })
  const [one, other] = [work.enter('the page of comfyui'), work.enter('the page of comfyui')]
  one()
  one()
  expect(work.busy()).toEqual(['the page of comfyui is open'])
  other()
  expect(work.busy()).toEqual(['the page of comfyui was used a moment ago'])
  nowMs = 2 * MIN
  expect(work.busy()).toEqual([])
})

test('the budget’s memory is what it was after a restart, and one of an older version is completed', () => {
  const opened = openTestDatabase()
  const store = createBudgetStore(opened.db)
  expect(store.load()).toEqual(newMemory())
  store.save({ ...newMemory(), extendedUsd: 5, seen: moment({}) })
  expect(createBudgetStore(opened.db).load()).toMatchObject({ extendedUsd: 5, seen: { boot: 'b1' } })
  opened.db.prepare('UPDATE budget SET memory = ?').run('{"warnedPercent":80}')
  expect(store.load()).toEqual({ ...newMemory(), warnedPercent: 80 })
  opened.close()
})

test('the clocks of this machine: the same boot twice, and time that goes on', () => {
  const first = readMoment()
  const second = readMoment()
  expect(second.boot).toBe(first.boot)
  expect(first.boot).toMatch(/^[0-9a-f-]{36} \d+$/)
  expect(second.uptimeMs).toBeGreaterThanOrEqual(first.uptimeMs)
  expect(first.bootUptimeMs).toBeLessThanOrEqual(first.uptimeMs)
})
