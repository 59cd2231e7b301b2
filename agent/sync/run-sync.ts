import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { SyncRow } from '../../shared/contract/records.ts'
import type { SyncState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Carrier } from './carrier.ts'
import { compareCopies } from './compare-copies.ts'
import { createCopyMeter } from './copy-meter.ts'
import { createPendingCopier } from './copy-pending.ts'
import { copyUnit } from './copy-unit.ts'
import type { HashFile } from './file-hashes.ts'
import type { FlushOptions, FlushReport } from './flush-units.ts'
import { flushPending } from './flush-units.ts'
import { createKnownCopies } from './known-copies.ts'
import type { ObservedUnit } from './observe-units.ts'
import { createUnitObserver } from './observe-units.ts'
import { isStillThere } from './order-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'
import { pruneUnits } from './prune-units.ts'
import { remarkOnLoss, remarkOnUnits, remarkOnUnprunable } from './remark-on-units.ts'
import { createSyncHealth } from './sync-health.ts'
import { syncRow } from './sync-row.ts'
import type { SyncStore } from './sync-store.ts'
import { createInterruptible, createTurns } from './take-turns.ts'

export type SyncRunDeps = {
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  readonly store: SyncStore
  readonly hashFile: HashFile
  readonly temporaryFolder: string
  readonly random: () => number
  readonly openCarrier: (planned: PlannedSync, signal: AbortSignal) => Promise<Carrier>
}

export type PassOptions = {
  readonly signal: AbortSignal
  /** Wait for units that only need to stay quiet a little longer. */
  readonly waitToSettle: boolean
  /** Compare with the remote too, whatever is remembered of it. */
  readonly compare: boolean
}

const LEAST_REST_MS = 1_000
/** Looking takes a fiftieth of the time at most. */
const LOOK_SHARE = 50

export type SyncRun = ReturnType<typeof createSyncRun>

/**
 * One sync's state and its pass: look, judge, copy what is complete and not stored yet, compare, prune. Passes do not
 * overlap. What starts them (a timer, the watch, a person) is not known here.
 */
export const createSyncRun = (planned: PlannedSync, deps: SyncRunDeps) => {
  const { spec } = planned
  const { clock, report } = deps
  const observer = createUnitObserver(spec, deps)
  const copies = createKnownCopies(planned, deps.store)
  const health = createSyncHealth(planned, deps)
  const leases = new Map<string, number>()
  const inTurn = createTurns()
  const meter = createCopyMeter(clock)
  let isFlushing = false
  let interrupt: ((reason: Error) => void) | undefined

  let carrier: Carrier | undefined
  let units: readonly ObservedUnit[] = []
  let remark: Problem | null = null
  let loss: Problem | null = null
  let unprunable: Problem | null = null
  let lookMs = 0
  let service: { watchProblem: Problem | null } | undefined

  const openCarrier = async (signal: AbortSignal): Promise<Carrier> =>
    (carrier ??= await deps.openCarrier(planned, signal))

  const look = async (signal: AbortSignal): Promise<void> => {
    const startedMs = clock.monotonicMs()
    const found = await observer.look(signal)
    lookMs = clock.monotonicMs() - startedMs
    for (const before of units) {
      if (copies.isStored(before) || found?.some((now) => isStillThere(before, now))) continue
      loss = remarkOnLoss(spec, before.name)
      report({ type: 'sync.failed', subject: spec.name, data: { unit: before.name, problem: loss } })
    }
    units = found ?? []
    remark = remarkOnUnits(spec, { units: found, storedCount: copies.storedCount() })
  }

  const compareWithRemote = async (signal: AbortSignal): Promise<void> => {
    const destination = destinationOf(planned)
    const gone = await compareCopies(copies, { carrier: await openCarrier(signal), destination, signal })
    if (gone.length > 0)
      deps.log.warn('copies are gone from the remote; they are made again', { sync: spec.name, units: gone })
  }

  const settle = async (signal: AbortSignal): Promise<void> => {
    // Twice: what changed during the first wait gets one more chance, then it waits for the next pass.
    for (let round = 0; round < 2; round += 1) {
      const waits = units.flatMap(({ verdict }) =>
        verdict.state === 'settling' && verdict.waitMs !== undefined ? [verdict.waitMs] : [],
      )
      if (waits.length === 0) return
      await clock.sleep(Math.max(...waits) + 5, signal)
      await look(signal)
    }
  }

  const copyOne = (unit: ObservedUnit, signal: AbortSignal): Promise<void> =>
    copyUnit(unit, {
      ...deps,
      planned,
      copies,
      signal,
      carrier: () => openCarrier(signal),
      meter,
      report: (event) => {
        if (event.type === 'sync.copied') loss = null
        report(event)
      },
    })

  const copier = createPendingCopier(copyOne)

  const prune = async (signal: AbortSignal): Promise<void> => {
    if (spec.keep_local === undefined) return
    const { removed, unproven } = await pruneUnits(units, {
      root: spec.path,
      keep: spec.keep_local,
      carrier: () => openCarrier(signal),
      copyOf: (unit) => (copies.isStored(unit) ? copies.get(unit.name) : undefined),
      isLeased: (unit) => (leases.get(unit) ?? 0) > clock.monotonicMs(),
      signal,
    })
    unprunable = unproven === undefined ? null : remarkOnUnprunable(planned, unproven)
    if (removed.length === 0) return
    deps.log.info('older checkpoints were removed here; their copies are proven', {
      sync: spec.name,
      removed,
    })
    units = units.filter((unit) => !removed.includes(unit.name))
  }

  const pass = async ({ signal, compare, waitToSettle }: PassOptions): Promise<void> => {
    try {
      await look(signal)
      if (compare) await compareWithRemote(signal)
      if (waitToSettle) await settle(signal)
      await copier.copyAll(
        units.filter((unit) => !copies.isStored(unit)),
        { signal, goesOn: () => !isFlushing },
      )
      await prune(signal)
      health.succeeded()
    } catch (error) {
      if (signal.aborted) throw error
      // rclone may be installed, upgraded or replaced before the next try.
      carrier = undefined
      health.failed(error)
    }
  }

  const flush = async (options: FlushOptions): Promise<FlushReport> => {
    // When it cannot be looked at any more, what the last look saw is what there is to report.
    await look(options.signal).catch(() => undefined)
    return flushPending(
      units.filter((unit) => !copies.isStored(unit)),
      {
        ...options,
        ...deps,
        sync: spec.name,
        root: spec.path,
        carrier: () => openCarrier(options.signal),
        bytesPerSecond: meter.lastBytesPerSecond(),
        copy: copyOne,
      },
    )
  }

  const restMs = (): number => Math.max(LEAST_REST_MS, LOOK_SHARE * lookMs)
  const state = (): SyncState => {
    if (meter.unit() !== undefined) return 'copying'
    if (!service) return 'stopped'
    if (health.failures() === 0) return 'idle'
    return health.isRetrying() ? 'retrying' : 'failing'
  }

  return {
    planned,
    /** Runs one pass after those before it. Failures end in the row; only an abort is thrown. */
    pass: (options: PassOptions): Promise<void> =>
      inTurn(options.signal, () => {
        const mine = createInterruptible((signal) => pass({ ...options, signal }))
        interrupt = mine.interrupt
        return mine.run(options.signal)
      }),
    /** Brings home what can be brought in time. A copy under way is ended first, unless it will be done in time. */
    flush: async (options: FlushOptions): Promise<FlushReport> => {
      const startedMs = clock.monotonicMs()
      isFlushing = true
      try {
        const etaMs = 1000 * (meter.row()?.etaSeconds ?? Number.POSITIVE_INFINITY)
        if (etaMs > options.deadlineMs) interrupt?.(new AgentError('interrupted', `${spec.name} is flushed`))
        let report: FlushReport | undefined
        await inTurn(options.signal, async () => {
          const deadlineMs = Math.max(0, options.deadlineMs - (clock.monotonicMs() - startedMs))
          report = await flush({ ...options, deadlineMs })
        })
        return report ?? { flushed: [], unflushedBytes: 0, lost: [] }
      } finally {
        isFlushing = false
      }
    },
    /** Looks without copying: keeps the row true while the remote is left alone. */
    refresh: (signal: AbortSignal): Promise<void> => inTurn(signal, () => look(signal)),
    /** The units as they are now, without any effect on the next pass. */
    lookNow: async (signal: AbortSignal): Promise<readonly ObservedUnit[]> =>
      (await observer.look(signal)) ?? [],
    remoteState: (unit: string, digest: string): 'stored' | 'failed' | 'pending' =>
      copies.holds(unit, digest) ? 'stored' : copier.hasFailed(unit) ? 'failed' : 'pending',
    /** Keeps a unit from being pruned for a while: somebody pulls it. */
    lease: (unit: string, ms: number): void => void leases.set(unit, clock.monotonicMs() + ms),
    /** Tells that the service runs, and what is wrong with its watch; undefined: it stopped. */
    setService: (value: { watchProblem: Problem | null } | undefined): void => {
      service = value
    },
    /** The least time between two looks: looking at very many files must not keep a core busy. */
    restMs,
    /** Milliseconds until the next pass is useful, given that nothing happens before. */
    nextPassMs: (sinceCompareMs: number): number => {
      if (health.failures() > 0) return health.retryInMs()
      const settling = units.flatMap(({ verdict }) =>
        verdict.state === 'settling' ? [Math.max(restMs(), verdict.waitMs ?? spec.settle)] : [],
      )
      return Math.max(0, Math.min(spec.every - sinceCompareMs, ...settling))
    },
    mayTry: (): boolean => health.failures() === 0 || health.retryInMs() === 0,
    /** A copy that makes progress is not late, however long it takes. */
    isLate: (): boolean => health.isLate() && meter.stillForMs() > spec.every,
    row: (): SyncRow =>
      syncRow(spec.name, {
        state: state(),
        units,
        isStored: copies.isStored,
        hasFailed: copier.hasFailed,
        meter,
        lastSuccessAt: health.lastSuccessAt(),
        consecutiveFailures: health.failures(),
        problem: health.problem() ?? remark ?? loss ?? unprunable ?? service?.watchProblem ?? null,
      }),
  }
}
