import { expect, test } from 'vitest'
import type { StopFacts } from '../../../agent/budget/check-budget.ts'
import { checkBudget, stopsNothing } from '../../../agent/budget/check-budget.ts'
import { planBudget } from '../../../agent/budget/planned-budget.ts'
import type { Manifest } from '../../../shared/manifest/schema.ts'

const facts = (part: Partial<StopFacts>): StopFacts => ({
  subject: 'vast instance 7',
  kind: 'provider',
  missingKey: null,
  key: { read: 'accepted', write: 'accepted' },
  missingPrograms: [],
  saysStopped: null,
  usdPerHour: 0.5,
  hasGpuLoad: true,
  isOverLimit: false,
  ...part,
})
const check = (budget: Partial<NonNullable<Manifest['budget']>>, part: Partial<StopFacts> = {}) => {
  const { problems, unchecked } = checkBudget(planBudget({ on_limit: 'stop', ...budget }), facts(part))
  return { told: problems.map(({ severity, code }) => `${severity} ${code}`), unchecked, problems }
}
const NONE = { subject: null, kind: 'none', key: null } as const
const COMMAND = { subject: 'the command stop-me', kind: 'command', key: null } as const

test('a key that was proven by a write leaves nothing unchecked', () => {
  expect(check({ max_hours: 2 })).toMatchObject({ told: [], unchecked: [] })
})

test('incident C1: without a provider, a key or a command the plan has an error that says what is missing', () => {
  expect(check({ max_hours: 2 }, NONE).told).toEqual(['error no_way_to_stop'])
  const keyless = check({ idle_after: 60_000 }, { ...NONE, missingKey: 'CONTAINER_API_KEY' })
  expect(keyless.problems[0]?.message).toBe('the box could not be stopped: CONTAINER_API_KEY is not on it')
})

test('a budget that stops nothing needs no way to stop', () => {
  expect(check({ on_limit: 'notify', max_hours: 2 }, NONE)).toMatchObject({ told: [], unchecked: [] })
  expect(check({ max_hours: 0, max_cost_usd: 0 }, { ...NONE, usdPerHour: null })).toMatchObject({ told: [] })
})

test.each([
  ['was not tried with a write', { read: 'accepted', write: 'untried' }, 'only a write would tell'],
  ['may not read', { read: 'refused', write: 'untried' }, 'may not read'],
  ['could not be asked about', 'console.vast.ai: no route', 'no route'],
] as const)('a key that %s is listed as unchecked', (_, key, why) => {
  const { told, unchecked } = check({ max_hours: 2 }, { key })
  expect(told).toEqual([])
  expect(unchecked).toEqual([expect.stringContaining(why)])
})

test('incident C1: a key that the provider refuses is an error', () => {
  expect(check({ max_hours: 2 }, { key: { read: 'refused', write: 'refused' } }).told).toEqual([
    'error no_way_to_stop',
  ])
})

test.each([
  [['echo', 'shutting down'], true],
  [['/bin/true'], true],
  [['sh', '-c', 'echo stop; sleep 1 && true'], true],
  [['bash', '-lc', '# nothing yet'], true],
  [['shutdown', '-h', 'now'], false],
  [['sh', '-c', 'echo stopping; poweroff'], false],
  [['/usr/local/bin/stop-me'], false],
] as const)('incident C1: %j is a placeholder: %s', (command, isPlaceholder) => {
  expect(stopsNothing(command)).toBe(isPlaceholder)
})

test('a command is an error when its program is missing, or when its check is true already', () => {
  const stop = { command: ['stop-me'], check: ['is-down'] }
  expect(check({ max_hours: 2, stop }, COMMAND)).toMatchObject({
    told: [],
    unchecked: [expect.stringContaining('stop-me')],
  })
  expect(check({ max_hours: 2, stop }, { ...COMMAND, missingPrograms: ['stop-me'] }).told).toEqual([
    'error program_missing',
  ])
  expect(check({ max_hours: 2, stop }, { ...COMMAND, saysStopped: true }).told).toEqual([
    'error no_way_to_stop',
  ])
})

test('a limit of money without a price is an error, or unchecked while the provider is silent', () => {
  const stop = { command: ['stop-me'] }
  expect(check({ max_cost_usd: 5, stop }, { ...COMMAND, usdPerHour: null }).told).toEqual(['error no_price'])
  expect(check({ max_cost_usd: 5 }, { usdPerHour: null }).unchecked).toEqual([
    expect.stringContaining('price'),
  ])
})

test('idle_after without a GPU that can be asked, and a budget that is used up, are warnings', () => {
  expect(check({ idle_after: 60_000, max_hours: 1 }, { hasGpuLoad: false, isOverLimit: true }).told).toEqual([
    'warning gpu_missing',
    'warning budget_exceeded',
  ])
})
