import { describe, expect, test } from 'vitest'
import { judgeBox } from '../../client/rent/judge-box.ts'
import type { BoxFacts } from '../../client/rent/judge-box.ts'

const NOW = Date.parse('2026-11-22T12:00:00Z')
const HOUR = 36e5

const facts = (change: Partial<BoxFacts> & { hours?: number }): BoxFacts => ({
  instance: {
    id: '1',
    provider: 'vast',
    label: 'gpu-agent-x-1',
    state: 'running',
    message: null,
    gpu: null,
    gpuCount: 1,
    usdPerHour: 0.5,
    since: new Date(NOW - (change.hours ?? 1) * HOUR).toISOString(),
    ssh: null,
  },
  rental: {
    label: 'gpu-agent-x-1',
    provider: 'vast',
    id: '1',
    context: null,
    manifest: 'x',
    createdAt: new Date(NOW - HOUR).toISOString(),
    usdPerHour: 0.5,
    pid: null,
    maxCostUsd: 2,
    maxHours: null,
    onLimit: 'stop',
    syncedAt: null,
    stoppedProcesses: [],
  },
  budget: undefined,
  silentMs: 0,
  nowMs: NOW,
  ...change,
})
const heard = (change: Partial<NonNullable<BoxFacts['budget']>>): NonNullable<BoxFacts['budget']> => ({
  state: 'ok',
  spentUsd: 3,
  limitUsd: 2,
  rateUsdPerHour: 0.5,
  hoursUsed: 6,
  limitHours: null,
  stopAt: null,
  onLimit: 'stop',
  idle: null,
  problem: null,
  ...change,
})
const judge = (change: Parameters<typeof facts>[0]) => judgeBox(facts(change), { leaseMs: 0.5 * HOUR })

describe('which boxes the guard stops', () => {
  test('one whose agent is silent for the lease, and none before', () => {
    expect(judge({ silentMs: 0.49 * HOUR })).toBeUndefined()
    expect(judge({ silentMs: 0.5 * HOUR })).toBe('its agent has been silent for 30 min')
  })

  test('a silent one that is over its manifest’s limits, by more than its own stop may take', () => {
    expect(judge({ hours: 4.1 })).toBeUndefined()
    expect(judge({ hours: 4.5 })).toBe('it has cost $2.25 of $2.00, and did not stop itself')
    const rental = { ...facts({}).rental, maxCostUsd: null, maxHours: 3 }
    expect(judge({ hours: 3.1, rental })).toBeUndefined()
    expect(judge({ hours: 3.5, rental })).toBe('it has run for 3 h 30 min of 3 h, and did not stop itself')
  })

  test('an agent that answers counts for itself: its extension holds, its overrun ends', () => {
    expect(judge({ hours: 9, budget: heard({ limitUsd: 5 }) })).toBeUndefined()
    expect(judge({ hours: 1, budget: heard({}) })).toBe('it has cost $3.00 of $2.00, and did not stop itself')
  })

  test('incident B4: no limit is no limit, and notify stops nothing', () => {
    expect(judge({ hours: 900, budget: heard({ limitUsd: null }) })).toBeUndefined()
    expect(judge({ hours: 900, rental: { ...facts({}).rental, maxCostUsd: null } })).toBeUndefined()
    expect(judge({ hours: 900, rental: { ...facts({}).rental, onLimit: 'notify' } })).toBeUndefined()
    expect(judge({ hours: 9, budget: heard({ onLimit: 'notify' }) })).toBeUndefined()
  })

  test('nothing that is stopped, or being stopped', () => {
    for (const state of ['stopped', 'stopping', 'gone'] as const)
      expect(judge({ instance: { ...facts({}).instance, state }, silentMs: HOUR })).toBeUndefined()
  })
})
