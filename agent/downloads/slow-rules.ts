/** When a connection counts as too slow. Shorter only in tests. */
export type SlowRules = {
  /** How often speeds are looked at. */
  readonly tickMs: number
  /** Time over which a connection is compared with the others. */
  readonly windowMs: number
  /** Time over which the least speed holds, and after which silence at the end counts. */
  readonly crawlMs: number
}

export const SLOW_RULES: SlowRules = { tickMs: 500, windowMs: 3_000, crawlMs: 20_000 }
