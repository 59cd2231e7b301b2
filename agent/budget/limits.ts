import type { Measured } from './meter.ts'

/** What the box may cost and how long it may run, extensions included; null: no limit. */
export type Limits = { readonly costUsd: number | null; readonly ms: number | null }

export type LimitKind = 'cost' | 'hours'

/** The limit that is used up the most; null without a limit, or while nothing is known of it. */
export type MostUsed = { readonly kind: LimitKind; readonly percent: number }

/** What of the limits is used up. */
export const mostUsed = (limits: Limits, { spentUsd, usedMs }: Measured): MostUsed | null => {
  const cost =
    limits.costUsd === null || spentUsd === null
      ? []
      : [{ kind: 'cost' as const, percent: (spentUsd / limits.costUsd) * 100 }]
  const hours = limits.ms === null ? [] : [{ kind: 'hours' as const, percent: (usedMs / limits.ms) * 100 }]
  return [...cost, ...hours].sort((a, b) => b.percent - a.percent)[0] ?? null
}

/** How long the box may go on at this price until the first limit is reached; 0 when one is; null: no limit, or no price. */
export const timeLeft = (
  limits: Limits,
  { measured, usdPerHour }: { readonly measured: Measured; readonly usdPerHour: number | null },
): { readonly kind: LimitKind; readonly ms: number } | null => {
  const { spentUsd, usedMs } = measured
  const hours = limits.ms === null ? [] : [{ kind: 'hours' as const, ms: Math.max(0, limits.ms - usedMs) }]
  const left = limits.costUsd === null || spentUsd === null ? null : Math.max(0, limits.costUsd - spentUsd)
  const cost =
    left === null || (left > 0 && usdPerHour === null)
      ? []
      : [{ kind: 'cost' as const, ms: left === 0 ? 0 : (left / (usdPerHour ?? 1)) * 3_600_000 }]
  return [...hours, ...cost].sort((a, b) => a.ms - b.ms)[0] ?? null
}

const WARN_AT = [80, 95, 100] as const

/** The highest mark that was passed: 80, 95 or 100 percent, 0 before. */
export const markPassed = (percent: number): number => WARN_AT.findLast((mark) => percent >= mark) ?? 0
