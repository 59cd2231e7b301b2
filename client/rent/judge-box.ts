import type { BudgetRow } from '../../shared/contract/records.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { Instance } from '../../shared/providers/provider.ts'
import type { Rental } from './rentals.ts'

/** What is known of a box at one look: what its provider says, and what its agent said if it answered. */
export type BoxFacts = {
  readonly instance: Instance
  readonly rental: Rental
  /** Undefined: the agent was silent at this look; null: it answered and has no budget. */
  readonly budget: BudgetRow | null | undefined
  /** How long it has been silent while the provider could be reached. */
  readonly silentMs: number
  readonly nowMs: number
}

/** The box's own stop has this long after a limit, its final sync included; then the lease outside acts. */
const OWN_STOP_HOURS = 10 / 60

/** Why a box must be stopped from outside; undefined while it need not. Pure. */
export const judgeBox = (facts: BoxFacts, { leaseMs }: { readonly leaseMs: number }): string | undefined => {
  const { state } = facts.instance
  if (state === 'stopped' || state === 'gone' || state === 'stopping') return undefined
  if (facts.silentMs >= leaseMs) return `its agent has been silent for ${formatDuration(facts.silentMs)}`
  return overBudget(facts)
}

/** An agent that answers counts itself, extensions included; for a silent one its manifest's limits count. */
const overBudget = ({ instance, rental, budget, nowMs }: BoxFacts): string | undefined => {
  const heard = budget ?? undefined
  if ((heard?.onLimit ?? rental.onLimit) === 'notify') return undefined
  const rate = heard?.rateUsdPerHour ?? instance.usdPerHour ?? rental.usdPerHour ?? 0
  const began = Date.parse(instance.since ?? rental.createdAt)
  const hours = heard?.hoursUsed ?? Math.max(0, nowMs - began) / 36e5
  const spent = heard?.spentUsd ?? hours * rate
  const limitUsd = heard === undefined ? rental.maxCostUsd : heard.limitUsd
  const limitHours = heard === undefined ? rental.maxHours : heard.limitHours
  if (limitUsd !== null && spent > limitUsd + rate * OWN_STOP_HOURS)
    return `it has cost $${spent.toFixed(2)} of $${limitUsd.toFixed(2)}, and did not stop itself`
  if (limitHours !== null && hours > limitHours + OWN_STOP_HOURS)
    return `it has run for ${formatDuration(hours * 36e5)} of ${formatDuration(limitHours * 36e5)}, and did not stop itself`
  return undefined
}
