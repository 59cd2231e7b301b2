import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { SyncRow } from '../../shared/contract/records.ts'
import type { SyncState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Carrier } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import type { ObservedUnit } from './observe-units.ts'
import { createUnitObserver } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'
import { pruneUnits } from './prune-units.ts'
import { sealUnit } from './seal-unit.ts'
import { recordPath, storeUnit } from './store-unit.ts'
import type { StoredFile, SyncStore, UnitCopy } from './sync-store.ts'
import { POINTER_FILES } from './unit.ts'

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

/** How long to wait after the failures so far, and before the first (attempt 0) not at all. */
const LONGEST_BACKOFF_MS = 300_000
/** Nothing that a retry cures: new credentials or a new manifest do, so it is only looked at now and then. */
const BLOCKED_MS = {
  sync_auth: 900_000,
  sync_config: 900_000,
  program_missing: 900_000,
  sync_quota: 3_600_000,
}
const FAILING_AFTER = 3
/** A unit that does not become complete for this long is said to be stuck. */
const STALE_MS = 900_000
const CHANGED_TOO_OFTEN = 5
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
  const { clock, store, report } = deps
  const destination = destinationOf(planned)
  const observer = createUnitObserver(spec, deps)
  const createdMs = clock.monotonicMs()
  const health = store.health(spec.name)

  let carrier: Carrier | undefined
  const copies = new Map<string, UnitCopy>(store.copies(spec.name, destination))
  /** Unit → fingerprint that its stored copy holds. */
  const storedFingerprints = new Map<string, string>()
  const changedInARow = new Map<string, number>()
  const failedUnits = new Set<string>()
  const leases = new Map<string, number>()
  let units: readonly ObservedUnit[] = []
  let lastSuccessAt = health.lastSuccessAt
  let lastSuccessMs = createdMs
  let failures = health.consecutiveFailures
  let failure: Problem | null = health.problem
  let remark: Problem | null = null
  let nextAttemptMs = 0
  let lookMs = 0
  let copying: { unit: string; bytesDone: number } | undefined
  let service: { watchProblem: Problem | null } | undefined
  let tail: Promise<unknown> = Promise.resolve()

  const isStored = (unit: ObservedUnit): boolean => storedFingerprints.get(unit.name) === unit.fingerprint
  const key = (unit: string) => ({ sync: spec.name, destination, unit })
  const remarkOn = (message: string, hint: string): void => {
    remark = { code: 'sync_failed', severity: 'warning', subject: spec.name, message, hint }
  }

  const look = async (signal: AbortSignal): Promise<void> => {
    const before = units
    const startedMs = clock.monotonicMs()
    const found = await observer.look(signal)
    lookMs = clock.monotonicMs() - startedMs
    units = found ?? []
    remark = null
    const stuck = units.find(
      ({ verdict }) => verdict.state === 'settling' && !verdict.waitMs && verdict.unchangedMs > STALE_MS,
    )
    if (stuck?.verdict.state === 'settling')
      remarkOn(
        `not copied, since it does not become complete: ${stuck.verdict.reason}`,
        'Finish or remove it.',
      )
    const refused = units.find(({ verdict }) => verdict.state === 'refused')
    if (refused?.verdict.state === 'refused') {
      const { reason } = refused.verdict
      remark = {
        code: 'unsafe_path',
        severity: 'error',
        subject: spec.name,
        message: reason,
        hint: 'Rename it.',
      }
    }
    if (units.length === 0 && copies.size > 0)
      remarkOn(
        `${spec.path} is ${found ? 'empty' : 'gone'}, though ${copies.size} units were copied from it`,
        'Check that the disk is mounted; the copies on the remote are untouched.',
      )
    for (const unit of before)
      if (!units.some(({ name }) => name === unit.name) && !isStored(unit)) {
        remarkOn(
          `${unit.name} was removed before it was complete and copied`,
          'Nothing of it can be restored.',
        )
        report({ type: 'sync.failed', subject: spec.name, data: { unit: unit.name, lost: true } })
      }
  }

  /** Forgets copies that the remote does not have any more; it is the truth, our rows are not. */
  const compareWithRemote = async (signal: AbortSignal): Promise<void> => {
    carrier ??= await deps.openCarrier(planned, signal)
    const there = await carrier.list('everything', { signal })
    for (const [unit, copy] of copies) {
      if (copy.state !== 'stored') continue
      const isThere = (path: string, bytes?: number): boolean =>
        bytes === undefined ? there.has(path) : there.get(path)?.sizeBytes === bytes
      if (isThere(recordPath(unit)) && copy.files.every((file) => isThere(file.path, file.sizeBytes)))
        continue
      deps.log.warn('a copy is gone from the remote; it is made again', { sync: spec.name, unit })
      store.forgetCopy(key(unit))
      copies.delete(unit)
      storedFingerprints.delete(unit)
    }
  }

  const settle = async (signal: AbortSignal): Promise<void> => {
    // Twice: a unit that changed during the first wait gets one more chance, then it waits for the next pass.
    for (let round = 0; round < 2; round += 1) {
      const waits = units.flatMap(({ verdict }) =>
        verdict.state === 'settling' && verdict.waitMs !== undefined ? [verdict.waitMs] : [],
      )
      if (waits.length === 0) return
      await clock.sleep(Math.max(...waits) + 5, signal)
      await look(signal)
    }
  }

  const copyUnit = async (unit: ObservedUnit, signal: AbortSignal): Promise<void> => {
    if (unit.verdict.state !== 'complete') return
    const sealed = await sealUnit(unit, {
      root: spec.path,
      completeAt: unit.verdict.completeAt,
      hashFile: deps.hashFile,
      signal,
    })
    try {
      const known = copies.get(unit.name)
      if (known?.state === 'stored' && known.digest === sealed.digest) {
        storedFingerprints.set(unit.name, unit.fingerprint)
        return
      }
      carrier ??= await deps.openCarrier(planned, signal)
      const files: readonly StoredFile[] = sealed.files.map(({ path, sizeBytes, sha256 }) => ({
        path,
        sizeBytes,
        sha256,
      }))
      const copy = { digest: sealed.digest, files }
      const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
      const startedBefore = known?.state === 'started'
      copying = { unit: unit.name, bytesDone: 0 }
      report({
        type: 'sync.started',
        subject: spec.name,
        data: { unit: unit.name, files: files.length, bytes },
      })
      const verifiedBy = await storeUnit(sealed, {
        carrier,
        versions: spec.versions,
        completeMarker: spec.complete_marker,
        startedBefore,
        onPut: () => remember(unit.name, { ...copy, state: 'started', verifiedBy: null }),
        temporaryFolder: deps.temporaryFolder,
        signal,
        onProgress: (bytesDone) => {
          copying = { unit: unit.name, bytesDone }
        },
      })
      remember(unit.name, { ...copy, state: 'stored', verifiedBy })
      storedFingerprints.set(unit.name, unit.fingerprint)
      report({
        type: 'sync.copied',
        subject: spec.name,
        data: { unit: unit.name, files: files.length, bytes, digest: sealed.digest, verifiedBy },
      })
    } finally {
      copying = undefined
      await sealed.close()
    }
  }

  const remember = (unit: string, copy: UnitCopy): void => {
    store.saveCopy(key(unit), copy)
    copies.set(unit, copy)
  }

  /** Copies what is complete, newest first, pointers last. One unit's trouble does not stop the others. */
  const copyAll = async (signal: AbortSignal): Promise<void> => {
    const errors: unknown[] = []
    for (const unit of [...units].filter((one) => !isStored(one)).sort(newestFirst)) {
      try {
        await copyUnit(unit, signal)
        changedInARow.delete(unit.name)
        failedUnits.delete(unit.name)
      } catch (error) {
        signal.throwIfAborted()
        const times = (changedInARow.get(unit.name) ?? 0) + 1
        if (isCode(error, 'checkpoint_changed') && times < CHANGED_TOO_OFTEN) {
          changedInARow.set(unit.name, times)
          continue
        }
        failedUnits.add(unit.name)
        errors.push(error)
        // Whatever the remote refuses now it refuses for the next unit too.
        if (!isCode(error, 'checkpoint_changed', 'io_error', 'unsafe_path')) break
      }
    }
    if (errors.length > 0) throw errors[0]
  }

  const prune = async (signal: AbortSignal): Promise<void> => {
    if (spec.keep_local === undefined || !carrier) return
    const removed = await pruneUnits(units, {
      root: spec.path,
      keep: spec.keep_local,
      carrier,
      copyOf: (unit) => (isStored(unit) ? copies.get(unit.name) : undefined),
      isLeased: (unit) => (leases.get(unit) ?? 0) > clock.monotonicMs(),
      signal,
    })
    if (removed.length === 0) return
    deps.log.info('older checkpoints were removed here; their copies are proven', {
      sync: spec.name,
      removed,
    })
    units = units.filter((unit) => !removed.includes(unit.name))
  }

  const succeeded = (): void => {
    if (failures > 0) report({ type: 'sync.recovered', subject: spec.name, data: { failures } })
    lastSuccessAt = clock.now().toISOString()
    lastSuccessMs = clock.monotonicMs()
    failures = 0
    failure = null
    nextAttemptMs = 0
    store.saveHealth(spec.name, { lastSuccessAt, consecutiveFailures: 0, problem: null })
  }

  const failed = (error: unknown): void => {
    failures += 1
    const problem = problemFrom(error, spec.name)
    // One event for each new trouble, not one for each try.
    if (problem.code !== failure?.code || failures === 1)
      report({ type: 'sync.failed', subject: spec.name, data: { problem } })
    deps.log.warn('sync failed', { sync: spec.name, code: problem.code, message: problem.message, failures })
    failure = problem
    // A carrier may be stale: rclone may have been installed, upgraded or given new credentials since.
    carrier = undefined
    const longestMs = Math.min(LONGEST_BACKOFF_MS, 1_000 * 2 ** failures)
    const blockedMs = BLOCKED_MS[problem.code as keyof typeof BLOCKED_MS] as number | undefined
    nextAttemptMs = clock.monotonicMs() + (blockedMs ?? longestMs * (0.5 + deps.random() / 2))
    store.saveHealth(spec.name, { lastSuccessAt, consecutiveFailures: failures, problem })
  }

  const pass = async (options: PassOptions): Promise<void> => {
    const { signal } = options
    try {
      await look(signal)
      if (options.compare) await compareWithRemote(signal)
      if (options.waitToSettle) await settle(signal)
      await copyAll(signal)
      await prune(signal)
      succeeded()
    } catch (error) {
      if (signal.aborted) throw error
      failed(error)
    }
  }

  const inTurn = (signal: AbortSignal, work: () => Promise<void>): Promise<void> => {
    const mine = tail.then(() => {
      signal.throwIfAborted()
      return work()
    })
    tail = mine.catch(() => undefined)
    return orAborted(mine, signal)
  }

  const pending = () => units.filter((unit) => !isStored(unit) && unit.verdict.state !== 'refused')
  const state = (): SyncState => {
    if (copying) return 'copying'
    if (!service) return 'stopped'
    if (failures === 0) return 'idle'
    return failures >= FAILING_AFTER || (failure && failure.code in BLOCKED_MS) ? 'failing' : 'retrying'
  }

  const restMs = (): number => Math.max(LEAST_REST_MS, LOOK_SHARE * lookMs)

  return {
    planned,
    /** Looks without copying: keeps the row true while the remote is left alone. */
    refresh: (signal: AbortSignal): Promise<void> => inTurn(signal, () => look(signal)),
    /** Runs one pass after those before it. Failures end in the row; only an abort is thrown. */
    pass: (options: PassOptions): Promise<void> => inTurn(options.signal, () => pass(options)),
    /** The units as they are now, without any effect on the next pass. */
    lookNow: async (signal: AbortSignal): Promise<readonly ObservedUnit[]> =>
      (await observer.look(signal)) ?? [],
    remoteState: (unit: string, digest: string): 'stored' | 'failed' | 'pending' => {
      const copy = copies.get(unit)
      if (copy?.state === 'stored' && copy.digest === digest) return 'stored'
      return failedUnits.has(unit) ? 'failed' : 'pending'
    },
    /** Keeps a unit from being pruned for a while: somebody pulls it. */
    lease: (unit: string, ms: number): void => void leases.set(unit, clock.monotonicMs() + ms),
    /** Tells that the service runs, and what is wrong with its watch; undefined: it stopped. */
    setService: (value: { watchProblem: Problem | null } | undefined): void => {
      service = value
    },
    /** Milliseconds until the next pass is useful, given that nothing happens before. */
    nextPassMs: (sinceCompareMs: number): number => {
      if (failures > 0) return Math.max(0, nextAttemptMs - clock.monotonicMs())
      const settling = units.flatMap(({ verdict }) =>
        verdict.state === 'settling' ? [Math.max(restMs(), verdict.waitMs ?? spec.settle)] : [],
      )
      return Math.max(0, Math.min(spec.every - sinceCompareMs, ...settling))
    },
    /** The least time between two looks: looking at very many files must not keep a core busy. */
    restMs,
    mayTry: (): boolean => failures === 0 || clock.monotonicMs() >= nextAttemptMs,
    isLate: (): boolean => clock.monotonicMs() - lastSuccessMs > 3 * spec.every,
    row: (): SyncRow => ({
      name: spec.name,
      state: state(),
      lastSuccessAt,
      pendingFiles: pending().reduce((sum, unit) => sum + unit.files.length, 0),
      pendingBytes: Math.max(
        0,
        pending().reduce((sum, unit) => sum + unitBytes(unit), 0) - (copying?.bytesDone ?? 0),
      ),
      consecutiveFailures: failures,
      problem: failure ?? remark ?? service?.watchProblem ?? null,
    }),
  }
}

const unitBytes = (unit: ObservedUnit): number => unit.files.reduce((sum, file) => sum + file.sizeBytes, 0)

const newestFirst = (a: ObservedUnit, b: ObservedUnit): number => {
  const isPointer = (unit: ObservedUnit): number => Number(POINTER_FILES.includes(unit.name))
  const newest = (unit: ObservedUnit): number => Math.max(0, ...unit.files.map((file) => file.modifiedMs))
  return isPointer(a) - isPointer(b) || newest(b) - newest(a)
}

const isCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof AgentError && codes.includes(error.code)

/** Waiting for one's turn ends with the signal too; the work itself goes by the same signal. */
const orAborted = (work: Promise<void>, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
