import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import type { Clock } from '../platform/clock.ts'
import type { KnownCopies } from './known-copies.ts'
import type { ObservedUnit } from './observe-units.ts'
import { createUnitObserver } from './observe-units.ts'
import { isStillThere } from './order-units.ts'
import { remarkOnLoss, remarkOnUnits } from './remark-on-units.ts'

const LEAST_REST_MS = 1_000
/** Looking takes a fiftieth of the time at most. */
const LOOK_SHARE = 50

export type Survey = ReturnType<typeof createSurvey>

/** What the last look at a sync's path found, and what a person should know of it. */
export const createSurvey = (
  spec: SyncSpec,
  { clock, copies, report }: { clock: Clock; copies: KnownCopies; report: Report },
) => {
  const observer = createUnitObserver(spec, { clock, isStored: copies.isStored })
  let units: readonly ObservedUnit[] = []
  /** As the last whole look found them: what is gone by the next one is accounted for. */
  let accounted: readonly ObservedUnit[] = []
  let remark: Problem | null = null
  let loss: Problem | null = null
  let lookMs = 0

  const look = async (signal: AbortSignal): Promise<void> => {
    const startedMs = clock.monotonicMs()
    const found = await observer.look(signal)
    lookMs = clock.monotonicMs() - startedMs
    for (const before of accounted) {
      if (copies.isStored(before) || found?.some((now) => isStillThere(before, now))) continue
      loss = remarkOnLoss(spec, before.name)
      report({ type: 'sync.failed', subject: spec.name, data: { unit: before.name, problem: loss } })
    }
    accounted = units = found ?? []
    remark = remarkOnUnits(spec, { units: found, storedCount: copies.storedCount() })
  }

  return {
    /** @throws AgentError io_error when a folder cannot be read */
    look,
    /** Looks while copies are under way; what they hold may be gone from here by now, and is no loss yet. */
    glance: async (signal: AbortSignal): Promise<void> => {
      units = (await observer.look(signal)) ?? []
    },
    /** Waits for units that only have to rest a little longer, and looks again. */
    settle: async (signal: AbortSignal): Promise<void> => {
      // Twice: what changed during the first wait gets one more chance, then it waits for the next pass.
      for (let round = 0; round < 2; round += 1) {
        const waits = units.flatMap(({ verdict }) =>
          verdict.state === 'settling' && verdict.waitMs !== undefined ? [verdict.waitMs] : [],
        )
        if (waits.length === 0) return
        await clock.sleep(Math.max(...waits) + 5, signal)
        await look(signal)
      }
    },
    /** The units as they are now, without any effect on the next look's account of losses. */
    lookNow: async (signal: AbortSignal): Promise<readonly ObservedUnit[]> =>
      (await observer.look(signal)) ?? [],
    units: (): readonly ObservedUnit[] => units,
    /** Those that the remote does not hold as they are. */
    pending: (): readonly ObservedUnit[] => units.filter((unit) => !copies.isStored(unit)),
    /** Those that were removed here on purpose are no loss. */
    removed: (names: readonly string[]): void => {
      const isThere = (unit: ObservedUnit): boolean => !names.includes(unit.name)
      units = units.filter(isThere)
      accounted = accounted.filter(isThere)
    },
    /** A later unit arrived: what was lost before it is no trouble any more. */
    lossIsOver: (): void => {
      loss = null
    },
    problem: (): Problem | null => remark ?? loss,
    /** The least time between two looks: looking at very many files must not keep a core busy. */
    restMs: (): number => Math.max(LEAST_REST_MS, LOOK_SHARE * lookMs),
    /** Milliseconds until a unit may have settled, at the earliest; infinite when none is on its way. */
    settlesInMs: (): number => {
      const restMs = Math.max(LEAST_REST_MS, LOOK_SHARE * lookMs)
      const waits = units.flatMap(({ verdict }) =>
        verdict.state === 'settling' ? [Math.max(restMs, verdict.waitMs ?? spec.settle)] : [],
      )
      return Math.min(Number.POSITIVE_INFINITY, ...waits)
    },
  }
}
