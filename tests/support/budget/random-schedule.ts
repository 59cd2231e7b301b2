import type { Manifest } from '../../../shared/manifest/schema.ts'
import type { Fault } from '../providers/faults.ts'
import type { RentedBox } from './rented-box.ts'

const MIN = 60_000

/** The same seed gives the same schedule (mulberry32). */
export const createRandom = (seed: number) => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    chance: (share: number): boolean => next() < share,
    between: (low: number, high: number): number => low + next() * (high - low),
    oneOf: <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)] as T,
  }
}
export type Random = ReturnType<typeof createRandom>

/** From, until: milliseconds since the start. */
export type Spell = { readonly fromMs: number; readonly toMs: number }

export type Happening =
  | { readonly kind: 'crash'; readonly downMs: number }
  | { readonly kind: 'reboot'; readonly awayMs: number }
  | { readonly kind: 'cut'; readonly how: 'refuses' | 'hangs'; readonly forMs: number }
  | { readonly kind: 'fault'; readonly fault: Fault; readonly forMs: number }
  | { readonly kind: 'extend'; readonly ms: number }
  | { readonly kind: 'slow-sync'; readonly flushMs: number }
  /** Somebody starts a box that was stopped. */
  | { readonly kind: 'user-start' }

export type Schedule = {
  readonly lengthMs: number
  readonly budget: NonNullable<Manifest['budget']>
  readonly usdPerHour: number
  readonly provider: 'vast' | 'runpod'
  readonly key: 'account' | 'own'
  readonly stopMs: number
  /** When the box works, and when the evidence of it cannot be told. */
  readonly jobs: readonly Spell[]
  readonly unknown: readonly Spell[]
  readonly happenings: readonly (Happening & { readonly atMs: number })[]
}

const FAULTS: readonly Fault['does'][] = [
  { kind: 'answer', status: 500 },
  { kind: 'answer', status: 429, body: 'API requests too frequent' },
  { kind: 'answer', status: 401, body: '{"msg":"Invalid API key"}' },
  { kind: 'ignored' },
  { kind: 'drop' },
  { kind: 'garbage' },
  { kind: 'done-but', status: 502 },
]

/** One box for an hour or two: its work, its budget, and what goes wrong. */
export const makeSchedule = (random: Random): Schedule => {
  const lengthMs = random.between(45, 135) * MIN
  const provider = random.oneOf(['vast', 'vast', 'runpod'] as const)
  const usdPerHour = random.between(0.2, 3)
  const limitMs = random.between(15, 80) * MIN
  const limit = random.oneOf(['hours', 'cost', 'none'] as const)
  const spells = (gapMin: number, longestMin: number): Spell[] => {
    const found: Spell[] = []
    for (let atMs = random.between(0, gapMin) * MIN; atMs < lengthMs;) {
      const toMs = atMs + random.between(0.2, longestMin) * MIN
      found.push({ fromMs: atMs, toMs })
      atMs = toMs + random.between(0.5, gapMin) * MIN
    }
    return found
  }
  const happenings = Array.from({ length: Math.floor(random.between(0, 7)) }, () => ({
    atMs: random.between(0, lengthMs),
    ...happening(random),
  })).toSorted((a, b) => a.atMs - b.atMs)
  return {
    lengthMs,
    budget: {
      on_limit: random.chance(0.1) ? 'notify' : 'stop',
      ...(limit === 'hours' ? { max_hours: limitMs / (60 * MIN) } : {}),
      ...(limit === 'cost' ? { max_cost_usd: (limitMs / (60 * MIN)) * usdPerHour } : {}),
      ...(random.chance(0.7) ? { idle_after: random.between(3, 20) * MIN } : {}),
      rate_usd_per_hour: usdPerHour,
    },
    usdPerHour,
    provider,
    // RunPod's own key is one of the account in the fake.
    key: provider === 'vast' && random.chance(0.5) ? 'own' : 'account',
    stopMs: random.between(500, 20_000),
    jobs: spells(random.oneOf([5, 20, 60]), random.oneOf([2, 20, 60])),
    unknown: random.chance(0.3) ? spells(40, 5) : [],
    happenings,
  }
}

const happening = (random: Random): Happening => {
  switch (
    random.oneOf(['crash', 'crash', 'reboot', 'cut', 'fault', 'extend', 'slow-sync', 'start'] as const)
  ) {
    case 'crash':
      return { kind: 'crash', downMs: random.between(500, 60_000) }
    case 'reboot':
      return { kind: 'reboot', awayMs: random.between(5_000, 5 * MIN) }
    case 'cut':
      return {
        kind: 'cut',
        how: random.oneOf(['refuses', 'hangs'] as const),
        forMs: random.between(5_000, 20 * MIN),
      }
    case 'fault':
      return {
        kind: 'fault',
        fault: { on: random.oneOf(['stop', 'show'] as const), does: random.oneOf(FAULTS) },
        forMs: random.between(5_000, 15 * MIN),
      }
    case 'extend':
      return { kind: 'extend', ms: random.between(5, 30) * MIN }
    case 'slow-sync':
      return { kind: 'slow-sync', flushMs: random.between(0, 10) * MIN }
    case 'start':
      return { kind: 'user-start' }
  }
}

/** True in one of the spells. */
export const isIn = (spells: readonly Spell[], atMs: number): boolean =>
  spells.some(({ fromMs, toMs }) => atMs >= fromMs && atMs < toMs)

/** Whether an extension fits the budget: money for a limit of money, time for the others. */
export const extendBy = (box: RentedBox, ms: number, usdPerHour: number): void => {
  const budget = box.budget()
  const row = budget?.row()
  if (row === undefined) return
  if (row.limitUsd !== null) budget?.extend({ usd: (ms / 3_600_000) * usdPerHour })
  else if (row.limitHours !== null || row.idle !== null) budget?.extend({ ms })
}
