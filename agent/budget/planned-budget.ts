import type { Manifest } from '../../shared/manifest/schema.ts'

/** The budget of a manifest in the agent's own units; null is “no limit”, “not given” or “never”. */
export type PlannedBudget = {
  readonly maxCostUsd: number | null
  readonly maxMs: number | null
  /** US dollars an hour, for boxes whose provider does not tell. */
  readonly usdPerHour: number | null
  readonly idleAfterMs: number | null
  readonly onLimit: 'stop' | 'notify'
  /** How a box without a provider is stopped, and how that is seen. */
  readonly stop: { readonly command: readonly string[]; readonly check: readonly string[] | null } | null
}

const HOUR_MS = 3_600_000

/** A limit of 0 or less is no limit, whichever it is: a guard once took `max_cost_usd: 0` for a limit of nothing. */
export const planBudget = (budget: Manifest['budget']): PlannedBudget => {
  const hours = limitOrNone(budget?.max_hours)
  return {
    maxCostUsd: limitOrNone(budget?.max_cost_usd),
    maxMs: hours === null ? null : hours * HOUR_MS,
    usdPerHour: budget?.rate_usd_per_hour ?? null,
    idleAfterMs: limitOrNone(budget?.idle_after),
    onLimit: budget?.on_limit ?? 'stop',
    stop: budget?.stop ? { command: budget.stop.command, check: budget.stop.check ?? null } : null,
  }
}

/** True when something could make the agent stop this box. */
export const mayStop = ({ onLimit, maxCostUsd, maxMs, idleAfterMs }: PlannedBudget): boolean =>
  onLimit === 'stop' && (maxCostUsd !== null || maxMs !== null || idleAfterMs !== null)

const limitOrNone = (limit: number | undefined): number | null =>
  limit !== undefined && limit > 0 ? limit : null
