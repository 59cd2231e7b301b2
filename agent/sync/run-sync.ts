import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { FlushRecord, SyncRow } from '../../shared/contract/records.ts'
import type { SyncState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { Carrier } from './carrier.ts'
import { compareCopies } from './compare-copies.ts'
import { createCopyMeter } from './copy-meter.ts'
import type { CopyTogether } from './copy-pending.ts'
import { createPendingCopier } from './copy-pending.ts'
import { copyUnits } from './copy-units.ts'
import type { HashFile } from './file-hashes.ts'
import { createFlush } from './flush-sync.ts'
import type { FlushOptions } from './flush-sync.ts'
import { createKnownCopies } from './known-copies.ts'
import type { PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'
import { pruneUnits } from './prune-units.ts'
import { putSmallFiles } from './put-small-files.ts'
import { remarkOnUnprunable } from './remark-on-units.ts'
import { createSurvey } from './survey.ts'
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

const GLANCE_MS = 2_000

export type SyncRun = ReturnType<typeof createSyncRun>

/**
 * One sync's state and its pass: look, judge, copy what is complete and not stored yet, compare, prune. Passes do not
 * overlap. What starts them (a timer, the watch, a person) is not known here.
 */
export const createSyncRun = (planned: PlannedSync, deps: SyncRunDeps) => {
  const { spec } = planned
  const { clock, report } = deps
  const copies = createKnownCopies(planned, deps.store)
  const survey = createSurvey(spec, { clock, report, copies })
  const health = createSyncHealth(planned, deps)
  const leases = new Map<string, number>()
  const inTurn = createTurns()
  const meter = createCopyMeter(clock)
  let interrupt: ((reason: Error) => void) | undefined
  let carrier: Carrier | undefined
  let unprunable: Problem | null = null
  let service: { watchProblem: Problem | null } | undefined

  const openCarrier = async (signal: AbortSignal): Promise<Carrier> =>
    (carrier ??= await deps.openCarrier(planned, signal))

  const compareWithRemote = async (signal: AbortSignal): Promise<void> => {
    const destination = destinationOf(planned)
    const gone = await compareCopies(copies, { carrier: await openCarrier(signal), destination, signal })
    if (gone.length > 0)
      deps.log.warn('copies are gone from the remote; they are made again', { sync: spec.name, units: gone })
  }

  const copy: CopyTogether = (units, signal) =>
    copyUnits(units, {
      ...deps,
      planned,
      copies,
      signal,
      carrier: () => openCarrier(signal),
      meter,
      report: (event) => {
        if (event.type === 'sync.copied') survey.lossIsOver()
        report(event)
      },
    })

  const copier = createPendingCopier(copy)

  const flush = createFlush(spec, {
    clock,
    report,
    inTurn,
    meter,
    interrupt: (reason) => interrupt?.(reason),
    survey,
    copy,
    putSmallFiles: (unit, signal) =>
      putSmallFiles(unit, { ...deps, root: spec.path, carrier: () => openCarrier(signal), signal }),
  })

  /** A copy may take an hour: what becomes complete meanwhile is to be seen. */
  const whileLooking = async (work: () => Promise<void>, signal: AbortSignal): Promise<void> => {
    const ended = new AbortController()
    const both = AbortSignal.any([signal, ended.signal])
    const looking = async (): Promise<void> => {
      for (;;) {
        await clock.sleep(Math.max(GLANCE_MS, survey.restMs()), both)
        await survey.glance(both)
      }
    }
    const glances = looking().catch((error: unknown) => {
      if (!both.aborted)
        deps.log.warn('cannot look at what is to be copied', { sync: spec.name, error: errorText(error) })
    })
    try {
      await work()
    } finally {
      ended.abort(new AgentError('cancelled', 'nothing is copied any more'))
      await glances
    }
  }

  const prune = async (signal: AbortSignal): Promise<void> => {
    if (spec.keep_local === undefined) return
    const { removed, unproven } = await pruneUnits(survey.units(), {
      root: spec.path,
      keep: spec.keep_local,
      carrier: () => openCarrier(signal),
      copyOf: (unit) => (copies.isStored(unit) ? copies.get(unit.name) : undefined),
      completeMarker: spec.complete_marker,
      hashFile: deps.hashFile,
      onBroken: (unit) => {
        copies.forget(unit)
        deps.log.warn('a copy on the remote is not what was stored; it is made again', {
          sync: spec.name,
          unit,
        })
      },
      isLeased: (unit) => (leases.get(unit) ?? 0) > clock.monotonicMs(),
      signal,
    })
    unprunable = unproven === undefined ? null : remarkOnUnprunable(planned, unproven)
    if (removed.length === 0) return
    deps.log.info('older checkpoints were removed here; their copies are proven', {
      sync: spec.name,
      removed,
    })
    survey.removed(removed)
  }

  const pass = async ({ signal, compare, waitToSettle }: PassOptions): Promise<void> => {
    try {
      await survey.look(signal)
      if (compare) await compareWithRemote(signal)
      if (waitToSettle) await survey.settle(signal)
      const pending = survey.pending()
      await whileLooking(() => copier.copyAll(pending, { signal, goesOn: () => !flush.isAsked() }), signal)
      await prune(signal)
      health.succeeded()
    } catch (error) {
      if (signal.aborted) throw error
      // rclone may be installed, upgraded or replaced before the next try.
      carrier = undefined
      health.failed(error)
    }
  }

  const state = (): SyncState => {
    if (meter.isUnderWay()) return 'copying'
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
    /** Brings home what can be brought in time. */
    flush: (options: FlushOptions): Promise<FlushRecord> => flush.run(options),
    /** Looks without copying: keeps the row true while the remote is left alone. */
    refresh: (signal: AbortSignal): Promise<void> => inTurn(signal, () => survey.look(signal)),
    lookNow: survey.lookNow,
    remoteState: (unit: string, digest: string): 'stored' | 'failed' | 'pending' =>
      copies.holds(unit, digest) ? 'stored' : copier.hasFailed(unit) ? 'failed' : 'pending',
    /** Keeps a unit from being pruned for a while: somebody pulls it. */
    lease: (unit: string, ms: number): void => void leases.set(unit, clock.monotonicMs() + ms),
    /** Tells that the service runs, and what is wrong with its watch; undefined: it stopped. */
    setService: (value: { watchProblem: Problem | null } | undefined): void => {
      service = value
    },
    restMs: survey.restMs,
    /** Milliseconds until the next pass is useful, given that nothing happens before. */
    nextPassMs: (sinceCompareMs: number): number =>
      health.failures() > 0
        ? health.retryInMs()
        : Math.max(0, Math.min(spec.every - sinceCompareMs, survey.settlesInMs())),
    mayTry: (): boolean => health.failures() === 0 || health.retryInMs() === 0,
    /** A copy that makes progress is not late, however long it takes. */
    isLate: (): boolean => health.isLate() && meter.stillForMs() > spec.every,
    row: (): SyncRow =>
      syncRow(spec.name, {
        state: state(),
        units: survey.units(),
        isStored: copies.isStored,
        hasFailed: copier.hasFailed,
        meter,
        lastSuccessAt: health.lastSuccessAt(),
        consecutiveFailures: health.failures(),
        problem: health.problem() ?? survey.problem() ?? unprunable ?? service?.watchProblem ?? null,
      }),
  }
}
