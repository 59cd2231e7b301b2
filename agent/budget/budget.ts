import { AgentError } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { BudgetRow, FlushRecord } from '../../shared/contract/records.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { Moment } from '../platform/moment.ts'
import type { Extension } from './account.ts'
import { createAccount } from './account.ts'
import type { BudgetCheck } from './check-budget.ts'
import { checkBudget } from './check-budget.ts'
import type { Evidence } from './evidence.ts'
import { gatherStopFacts } from './gather-stop-facts.ts'
import { createGuard } from './guard.ts'
import { idleForMs } from './idle.ts'
import { mostUsed } from './limits.ts'
import type { BudgetStore } from './memory.ts'
import type { PlannedBudget } from './planned-budget.ts'
import type { OwnBox, OwnBoxDeps } from './own-box.ts'
import { createFindOwnBox, rentedUsdPerHour } from './own-box.ts'
import { within } from './within.ts'

export type BudgetDeps = {
  readonly store: BudgetStore
  readonly clock: Clock
  readonly readMoment: () => Moment
  readonly report: Report
  readonly log: Log
  readonly evidence: readonly Evidence[]
  /** How this box is found at its provider. */
  readonly own: OwnBoxDeps
  /** The load of each GPU in percent; null: it cannot be told. */
  readonly readGpuLoad: (signal: AbortSignal) => Promise<readonly (number | null)[] | null>
  readonly flush: (options: { deadlineMs: number; signal: AbortSignal }) => Promise<FlushRecord>
}

export type Budget = ReturnType<typeof createBudget>

const BEAT_MS = 30_000
const PRICE_EVERY_MS = 10 * 60_000
/** While no price is known, and a limit of money waits for it. */
const PRICE_SOON_MS = 60_000
const PRICE_MS = 30_000

/** What the box costs, how much of it is allowed, and the end when that is used up or nobody uses the box. */
export const createBudget = (deps: BudgetDeps) => {
  const { clock, log } = deps
  const account = createAccount({
    ...deps,
    rentedUsdPerHour: () => rentedUsdPerHour(deps.own.lookup),
  })
  const findOwnBox = createFindOwnBox(deps.own)
  const findBox = () => findOwnBox(account.planned())
  const guard = createGuard({ ...deps, account, box: findBox })

  const countTime = async (signal: AbortSignal): Promise<never> => {
    for (;;) {
      account.beat()
      await clock.sleep(BEAT_MS, signal)
    }
  }

  const askPrices = async (signal: AbortSignal): Promise<never> => {
    for (;;) {
      const box = findBox()
      try {
        if (box !== null && box.control.name !== 'command') await askPrice(box, signal)
      } catch (error) {
        signal.throwIfAborted()
        log.warn('the provider does not tell the price', { error: errorText(error) })
      }
      await clock.sleep(account.prices().running === null ? PRICE_SOON_MS : PRICE_EVERY_MS, signal)
    }
  }

  /** A price that is not told any more is the one of before. */
  const askPrice = async ({ id, control }: OwnBox, signal: AbortSignal): Promise<void> => {
    const { state, usdPerHour } = await within((one) => control.show(id, { signal: one }), {
      ms: PRICE_MS,
      what: 'the price',
      clock,
      signal,
    })
    if (state === 'running' && usdPerHour !== null)
      account.setPrices({ ...account.memory().prices, running: usdPerHour })
  }

  const stateOf = (): BudgetRow['state'] => {
    const state = guard.state()
    if (state === 'announced') return 'stopping'
    if (state !== 'watching') return state
    return account.memory().warnedPercent > 0 ? 'warning' : 'ok'
  }

  /** When the box is stopped, as far as can be told: as announced, else when the first limit is reached at this price. */
  const stopAt = (): string | null => {
    const { uptimeMs, wallMs } = account.now()
    const announced = guard.stopAtUptimeMs()
    if (announced !== null) return new Date(wallMs + announced - uptimeMs).toISOString()
    const left =
      account.planned()?.onLimit === 'stop' && guard.state() === 'watching' ? account.timeLeft() : null
    return left === null || left.ms > FARTHEST_MS ? null : new Date(wallMs + left.ms).toISOString()
  }

  return {
    /** Takes over the limits of a manifest, from now on. */
    configure: (planned: PlannedBudget): void => {
      account.configure(planned)
      guard.wake()
    },

    /**
     * Whether this budget could do what it promises. With `write` the key is proven by a write that changes nothing.
     * @throws the signal's reason
     */
    check: async (
      planned: PlannedBudget,
      { write, signal }: { readonly write: boolean; readonly signal: AbortSignal },
    ): Promise<BudgetCheck> => {
      const usage = mostUsed({ costUsd: planned.maxCostUsd, ms: planned.maxMs }, account.measured())
      const facts = await gatherStopFacts(planned, {
        own: deps.own,
        box: findOwnBox(planned),
        clock,
        // The write is the start of what runs: never while the box is being stopped.
        write: write && guard.state() === 'watching',
        usdPerHour: account.prices().running,
        readGpuLoad: deps.readGpuLoad,
        isOverLimit: usage !== null && usage.percent >= 100,
        signal,
      })
      return checkBudget(planned, facts)
    },

    row: (): BudgetRow => {
      const planned = account.planned()
      const idle = guard.idle()
      return {
        state: stateOf(),
        ...account.figures(),
        rateUsdPerHour: account.prices().running,
        stopAt: stopAt(),
        onLimit: planned?.onLimit ?? null,
        idle:
          planned?.idleAfterMs == null
            ? null
            : {
                afterSeconds: planned.idleAfterMs / 1000,
                idleSeconds: Math.round(idleForMs(idle) / 1000),
                busy: [...idle.busy],
              },
        problem: guard.problem(),
      }
    },

    /** Why the box cannot be stopped although it should be; null otherwise. */
    problem: (): Problem | null => guard.problem(),

    /** @throws AgentError bad_request when nothing limits the box that this could extend */
    extend: (by: Extension): BudgetRow['state'] => {
      account.beat()
      account.extend(by)
      guard.wake()
      return stateOf()
    },

    service: {
      name: 'budget',
      run: async (signal: AbortSignal): Promise<void> => {
        // First of all: a new boot takes back what was meant for the one before.
        account.beat()
        const failed = new AbortController()
        const both = AbortSignal.any([signal, failed.signal])
        try {
          await Promise.all([countTime(both), askPrices(both), guard.run(both)])
        } finally {
          failed.abort(new AgentError('cancelled', 'the budget starts again'))
        }
      },
    },
  }
}

/** Later than this is no date that anybody waits for. */
const FARTHEST_MS = 366 * 24 * 3_600_000
