import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { Moment } from '../platform/moment.ts'
import { markPassed, mostUsed, timeLeft } from './limits.ts'
import type { Limits } from './limits.ts'
import type { BudgetMemory, BudgetStore } from './memory.ts'
import { addStretch, elapsed, measure } from './meter.ts'
import type { Measured, Prices } from './meter.ts'
import type { PlannedBudget } from './planned-budget.ts'

export type Account = ReturnType<typeof createAccount>

/** A stop that was announced before a restart of the box is not announced for the whole time again. */
const ANNOUNCED_BEFORE_MS = 60_000

/** What a person may add: time, or money. */
export type Extension = { readonly ms: number } | { readonly usd: number }

/** The meter of this box with its limits, kept over restarts of the agent and of the box. */
export const createAccount = (deps: {
  readonly store: BudgetStore
  readonly readMoment: () => Moment
  /** What the box was rented for; null where that is not known. */
  readonly rentedUsdPerHour: () => number | null
  readonly report: Report
  readonly log: Log
}) => {
  const { store, readMoment, report, log } = deps
  let memory = store.load()
  let planned: PlannedBudget | null = null

  /** Never throws: where the disk is full, the budget goes on from memory. */
  const change = (part: Partial<BudgetMemory>): void => {
    memory = { ...memory, ...part }
    try {
      store.save(memory)
    } catch (error) {
      log.error('the budget could not be kept', { error: errorText(error) })
    }
  }
  const prices = (): Prices => ({
    running: memory.prices.running ?? deps.rentedUsdPerHour() ?? planned?.usdPerHour ?? null,
    stopped: memory.prices.stopped,
  })
  const stretchesUntil = (now: Moment): BudgetMemory['stretches'] =>
    elapsed(memory.seen, now).reduce<BudgetMemory['stretches']>(
      (sum, { kind, ms }) => addStretch(sum, { kind, ms, usdPerHour: prices()[kind] }),
      memory.stretches,
    )
  const measured = (): Measured => measure(stretchesUntil(readMoment()), prices())
  const limits = (): Limits => ({
    costUsd: planned?.maxCostUsd == null ? null : planned.maxCostUsd + memory.extendedUsd,
    ms: planned?.maxMs == null ? null : planned.maxMs + memory.extendedMs,
  })

  /** Tells 80, 95 and 100 % once each; more room takes what was told back, so that it is told again. */
  const warn = (): void => {
    const most = mostUsed(limits(), measured())
    const mark = most === null ? 0 : markPassed(most.percent)
    if (most !== null && mark > memory.warnedPercent)
      report({
        type: mark === 100 ? 'budget.limit-reached' : 'budget.warning',
        subject: 'budget',
        data: { limit: most.kind, percent: mark, ...figures() },
      })
    if (mark !== memory.warnedPercent) change({ warnedPercent: mark })
  }
  const figures = () => {
    const { spentUsd, usedMs } = measured()
    const { costUsd, ms } = limits()
    return {
      spentUsd: cents(spentUsd),
      limitUsd: costUsd,
      hoursUsed: hours(usedMs),
      limitHours: ms === null ? null : hours(ms),
    }
  }

  return {
    memory: () => memory,
    change,
    now: readMoment,
    prices,
    limits,
    measured,
    figures,
    planned: () => planned,
    timeLeft: () => timeLeft(limits(), { measured: measured(), usdPerHour: prices().running }),

    /** Counts the time since the last beat. A new boot takes the intent to stop back, and grants a grace. */
    beat: (): void => {
      const now = readMoment()
      const stretches = stretchesUntil(now)
      const isNewBoot = memory.seen !== null && memory.seen.boot !== now.boot
      const { intent, announced } = memory
      change({
        seen: now,
        stretches,
        ...(isNewBoot
          ? {
              announced: announced && {
                ...announced,
                boot: now.boot,
                stopAtUptimeMs: now.uptimeMs + ANNOUNCED_BEFORE_MS,
              },
              intent: null,
              idleHold: null,
              graceBoot: intent === null ? null : now.boot,
            }
          : {}),
      })
      if (isNewBoot && intent !== null)
        report({
          type: 'budget.stop-cancelled',
          subject: 'budget',
          data: { reason: intent.reason, because: 'the box was started again' },
        })
      warn()
    },

    /** Takes over the limits of a manifest. A limit that changed stands without the extensions of the old one. */
    configure: (next: PlannedBudget | null): void => {
      planned = next
      if (next === null) return
      const { base } = memory
      change({
        base: { costUsd: next.maxCostUsd, ms: next.maxMs },
        extendedUsd: base.costUsd === next.maxCostUsd ? memory.extendedUsd : 0,
        extendedMs: base.ms === next.maxMs ? memory.extendedMs : 0,
      })
      warn()
    },

    /** What the provider asks from now on; the time until now counts at the price before. */
    setPrices: (told: Prices): void => {
      if (told.running === memory.prices.running && told.stopped === memory.prices.stopped) return
      const now = readMoment()
      change({ stretches: stretchesUntil(now), seen: now, prices: told })
    },

    /**
     * More time or money. Time also keeps an idle box for as long.
     * @throws AgentError bad_request when there is nothing that it could extend
     */
    extend: (by: Extension): void => {
      const { costUsd, ms } = limits()
      if ('usd' in by) {
        if (costUsd === null) throw nothingToExtend('max_cost_usd', ms === null ? null : 'time: 2h')
        change({ extendedUsd: memory.extendedUsd + by.usd })
      } else {
        if (ms === null && planned?.idleAfterMs == null)
          throw nothingToExtend('max_hours', costUsd === null ? null : inMoney(by.ms, prices().running))
        const { boot, uptimeMs } = readMoment()
        change({
          extendedMs: ms === null ? memory.extendedMs : memory.extendedMs + by.ms,
          idleHold: { boot, untilUptimeMs: uptimeMs + by.ms },
        })
      }
      warn()
      const data = 'usd' in by ? { usd: by.usd } : { hours: hours(by.ms) }
      report({ type: 'budget.extended', subject: 'budget', data: { ...data, ...figures() } })
    },
  }
}

const nothingToExtend = (key: string, other: string | null): AgentError =>
  new AgentError('bad_request', `the budget has no ${key} that could be extended`, {
    hint: other === null ? 'Nothing limits this box: there is nothing to extend.' : `Extend by ${other}.`,
  })

const inMoney = (ms: number, usdPerHour: number | null): string =>
  usdPerHour === null
    ? 'money: 5usd'
    : `money: ${((usdPerHour * ms) / 3_600_000).toFixed(2)}usd are ${formatDuration(ms)} at $${usdPerHour} an hour`

const cents = (usd: number | null): number | null => (usd === null ? null : Math.round(usd * 1e4) / 1e4)
const hours = (ms: number): number => Math.round((ms / 3_600_000) * 1e4) / 1e4
