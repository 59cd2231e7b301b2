import { z } from 'zod'
import type { Database } from '../platform/database.ts'

/*
 * Everything of the budget that outlives the agent, as one value that is written whole: a crash leaves the one before
 * or the one after, never a meter that counts on beside an intent that was taken back.
 */

const MomentShape = z.object({
  kernel: z.string(),
  boot: z.string(),
  uptimeMs: z.number(),
  bootUptimeMs: z.number(),
  wallMs: z.number(),
})
const Price = z.number().nullable()
const StopReason = z.enum(['cost', 'hours', 'idle'])
/** Why the box is going to be stopped: a limit was reached, or it was idle. */
export type StopReason = z.infer<typeof StopReason>

const BudgetMemory = z.object({
  /** The last look at the clocks; the meter goes on from there. */
  seen: MomentShape.nullable(),
  stretches: z
    .array(z.object({ kind: z.enum(['running', 'stopped']), ms: z.number(), usdPerHour: Price }))
    .readonly(),
  /** As the provider told them last. */
  prices: z.object({ running: Price, stopped: Price }),
  /** The manifest's limits that the extensions belong to: another limit begins without them. */
  base: z.object({ costUsd: Price, ms: Price }),
  extendedUsd: z.number(),
  extendedMs: z.number(),
  /** The highest mark that was told: 80, 95, 100 percent. */
  warnedPercent: z.number(),
  /** The announced stop at a limit, of this boot; a restarted agent keeps to it. */
  announced: z.object({ boot: z.string(), reason: StopReason, stopAtUptimeMs: z.number() }).nullable(),
  /** Written before the provider is called, taken back by a new boot. */
  intent: z.object({ boot: z.string(), reason: StopReason, at: z.string() }).nullable(),
  /** The boot that followed a stop of our own: it gets time before a limit stops it again. */
  graceBoot: z.string().nullable(),
  /** No idle stop before this moment of this boot, as a person asked. */
  idleHold: z.object({ boot: z.string(), untilUptimeMs: z.number() }).nullable(),
})
export type BudgetMemory = Readonly<z.infer<typeof BudgetMemory>>

export type BudgetStore = { readonly load: () => BudgetMemory; readonly save: (memory: BudgetMemory) => void }

/** A box that was never looked at. */
export const newMemory = (): BudgetMemory => ({
  seen: null,
  stretches: [],
  prices: { running: null, stopped: null },
  base: { costUsd: null, ms: null },
  extendedUsd: 0,
  extendedMs: 0,
  warnedPercent: 0,
  announced: null,
  intent: null,
  graceBoot: null,
  idleHold: null,
})

export const createBudgetStore = (db: Database): BudgetStore => {
  const select = db.prepare<[], { memory: string }>('SELECT memory FROM budget')
  const replace = db.prepare<[string]>('INSERT OR REPLACE INTO budget (id, memory) VALUES (1, ?)')
  return {
    load: () => {
      const row = select.get()
      return row === undefined
        ? newMemory()
        : BudgetMemory.parse({ ...newMemory(), ...(JSON.parse(row.memory) as object) })
    },
    save: (memory) => {
      replace.run(JSON.stringify(memory))
    },
  }
}
