import type { Moment } from '../platform/moment.ts'

/*
 * What the box has cost, from stretches of time with one price each. Pure: clocks and prices come in as values.
 * Within one run of the kernel time is monotonic, so a wall clock that is set, forward or back, changes nothing.
 */

/** `running`: billed in full; `stopped`: billed for its storage alone. */
export type StretchKind = 'running' | 'stopped'

/** Time with one price. `usdPerHour` null: the price was not known then. */
export type Stretch = {
  readonly kind: StretchKind
  readonly ms: number
  readonly usdPerHour: number | null
}

/** US dollars an hour; null: not known. `stopped` is what the storage of a stopped box costs. */
export type Prices = { readonly running: number | null; readonly stopped: number | null }

export type Measured = {
  /** Null while a price is missing. */
  readonly spentUsd: number | null
  /** Time that the GPU was there for. */
  readonly usedMs: number
}

const HOUR_MS = 3_600_000
/** A box that was away for no longer was restarted, which is billed; one that was away for longer had been stopped. */
const LONGEST_RESTART_MS = 15 * 60_000
/** Far more than a box has prices; the oldest are put together then. */
const MOST_STRETCHES = 100

/** The time between two looks at the clocks. Nothing before the first look: the meter starts with the agent. */
export const elapsed = (before: Moment | null, now: Moment): readonly Omit<Stretch, 'usdPerHour'>[] => {
  if (before === null) return []
  if (before.boot === now.boot) return [{ kind: 'running', ms: positive(now.uptimeMs - before.uptimeMs) }]
  const sinceBootMs = positive(now.uptimeMs - now.bootUptimeMs)
  const awayMs =
    before.kernel === now.kernel
      ? positive(now.bootUptimeMs - before.uptimeMs)
      : positive(now.wallMs - sinceBootMs - before.wallMs)
  return [
    { kind: awayMs <= LONGEST_RESTART_MS ? 'running' : 'stopped', ms: awayMs },
    { kind: 'running', ms: sinceBootMs },
  ]
}

/** The stretches with one more; time of one kind and price is one stretch. */
export const addStretch = (stretches: readonly Stretch[], one: Stretch): readonly Stretch[] => {
  if (one.ms === 0) return stretches
  const index = stretches.findIndex(
    ({ kind, usdPerHour }) => kind === one.kind && usdPerHour === one.usdPerHour,
  )
  if (index < 0) return foldOldest([...stretches, one])
  return stretches.map((stretch, at) => (at === index ? { ...stretch, ms: stretch.ms + one.ms } : stretch))
}

/** What the stretches cost. Time whose price was not known then counts at the price that is known now. */
export const measure = (stretches: readonly Stretch[], prices: Prices): Measured => {
  const usedMs = stretches.reduce((sum, { kind, ms }) => sum + (kind === 'running' ? ms : 0), 0)
  let spentUsd = 0
  for (const { kind, ms, usdPerHour } of stretches) {
    // A provider that does not tell the price of a stopped box leaves it out of the sum.
    const price = usdPerHour ?? (kind === 'running' ? prices.running : (prices.stopped ?? 0))
    if (price === null) return { spentUsd: null, usedMs }
    spentUsd += (price * ms) / HOUR_MS
  }
  return { spentUsd: prices.running === null && usedMs === 0 ? null : spentUsd, usedMs }
}

const positive = (ms: number): number => Math.max(0, ms)

/** Two stretches of one kind with known prices become one with the price between them: the sum stays what it was. */
const foldOldest = (stretches: readonly Stretch[]): readonly Stretch[] => {
  if (stretches.length <= MOST_STRETCHES) return stretches
  const [first, second] = stretches.filter(
    ({ kind, usdPerHour }) => kind === 'running' && usdPerHour !== null,
  )
  if (first === undefined || second === undefined) return stretches
  const ms = first.ms + second.ms
  const usdPerHour = ((first.usdPerHour ?? 0) * first.ms + (second.usdPerHour ?? 0) * second.ms) / ms
  return [
    { kind: 'running', ms, usdPerHour },
    ...stretches.filter((stretch) => stretch !== first && stretch !== second),
  ]
}
