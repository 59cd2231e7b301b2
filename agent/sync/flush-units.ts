import type { Problem } from '../../shared/contract/errors.ts'
import { problemFrom } from '../../shared/contract/errors.ts'
import type { FlushRecord, PendingUnit } from '../../shared/contract/records.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import { batchUnits } from './batch-units.ts'
import type { CopyTogether } from './copy-pending.ts'
import { halvesOf, isTroubleOfOne, isTroubleOfUnit } from './copy-pending.ts'
import type { ObservedUnit } from './observe-units.ts'
import { newestFirst } from './order-units.ts'
import { isCheckpoint } from './is-checkpoint.ts'
import { reasonOf } from './sync-row.ts'
import { sizeOf, SMALL_BYTES } from './unit.ts'

/** How a flush of one sync works: what is pending, and how a unit is copied. */
export type FlushContext = {
  readonly sync: string
  readonly clock: Clock
  /** When it has to be over, on the monotonic clock; `signal` aborts then too. */
  readonly endsAtMs: number
  readonly signal: AbortSignal
  /** Larger units are left alone: an agent that is only restarted goes on with them. */
  readonly largestUnitBytes: number
  /** Looks again. @returns the units that the remote does not hold as they are */
  readonly look: (signal: AbortSignal) => Promise<readonly ObservedUnit[]>
  /** What the last look saw, for when it can be looked no more. */
  readonly pending: () => readonly ObservedUnit[]
  /** As measured by earlier copies; undefined: none was made yet. */
  readonly bytesPerSecond: () => number | undefined
  readonly copy: CopyTogether
  readonly putSmallFiles: (unit: ObservedUnit, signal: AbortSignal) => Promise<void>
}

type Why = Pick<PendingUnit, 'state' | 'reason'>
type Stored = FlushRecord['stored'][number]

/** A careful guess for a remote that nothing was copied to yet. */
const UNKNOWN_BYTES_PER_SECOND = 10_000_000
/** A part of the time for listing, comparing and the record. */
const SPARE_SHARE = 0.8

/**
 * The last copies before the box goes away: the newest complete unit first, nothing that cannot end in time (a copy
 * that is cut off is worth nothing). Where the time is short, small units come first, then the small files of the
 * newest unit that is too large. Where it is not, units that only have to rest are waited for.
 * A remote that fails ends the flush of this sync; nothing is thrown for it, what is left says why.
 */
export const flushUnits = async (context: FlushContext): Promise<FlushRecord> => {
  const { clock, signal } = context
  const stored = new Map<string, Stored>()
  const why = new Map<string, Why>()
  try {
    await copyInTime(await context.look(signal), { ...context, stored, why, mayPutParts: true })
    // Twice: what changed during the first wait gets one more chance.
    for (let round = 0; round < 2; round += 1) {
      const waitMs = longestWaitMs(context.pending(), context.endsAtMs - clock.monotonicMs())
      if (waitMs === undefined) break
      await clock.sleep(waitMs, signal)
      await copyInTime(await context.look(signal), { ...context, stored, why, mayPutParts: false })
    }
  } catch (error) {
    return reportFlush(context, { stored, why, problem: problemFrom(error, context.sync) })
  }
  return reportFlush(context, { stored, why })
}

const copyInTime = async (
  pending: readonly ObservedUnit[],
  context: FlushContext & {
    readonly stored: Map<string, Stored>
    readonly why: Map<string, Why>
    readonly mayPutParts: boolean
  },
): Promise<void> => {
  const { clock, endsAtMs, signal, stored, why } = context
  const leftSeconds = (): number => Math.max(0, (endsAtMs - clock.monotonicMs()) / 1000)
  const speed = (): number => context.bytesPerSecond() ?? UNKNOWN_BYTES_PER_SECOND
  const fits = (bytes: number): boolean => bytes <= leftSeconds() * SPARE_SHARE * speed()

  const copyIfTheyFit = async (units: readonly ObservedUnit[]): Promise<void> => {
    if (!fits(sizeOfAll(units))) {
      for (const unit of units)
        why.set(unit.name, tooLate(unit, { speed: speed(), leftSeconds: leftSeconds() }))
      return
    }
    signal.throwIfAborted()
    try {
      await context.copy(units, signal)
      for (const unit of units) {
        stored.set(unit.name, named(context.sync, unit))
        why.delete(unit.name)
      }
    } catch (error) {
      if (units.length > 1 && !signal.aborted && isTroubleOfOne(error))
        for (const half of halvesOf(units)) await copyIfTheyFit(half)
      else {
        for (const unit of units) why.set(unit.name, failed(error))
        if (signal.aborted || !isTroubleOfUnit(error)) throw error
      }
    }
  }

  const complete = pending.flatMap((unit) => asComplete(unit) ?? []).sort(newestFirst)
  const able = complete.filter((unit) => sizeOf(unit) <= context.largestUnitBytes)
  const isShort = !fits(sizeOfAll(able))
  const [small, large] = isShort ? [able.filter(isSmall), able.filter((unit) => !isSmall(unit))] : [able, []]
  const tooLarge = large.find((unit) => !fits(sizeOf(unit)))
  for (const batch of batchUnits(small)) await copyIfTheyFit(batch)
  if (tooLarge && context.mayPutParts) await context.putSmallFiles(tooLarge, signal)
  for (const unit of large) await copyIfTheyFit([unit])
}

const sizeOfAll = (units: readonly ObservedUnit[]): number =>
  units.reduce((sum, unit) => sum + sizeOf(unit), 0)

const isSmall = (unit: ObservedUnit): boolean => sizeOf(unit) <= SMALL_BYTES

/** What a marker says to be complete need not rest any more. */
const asComplete = (unit: ObservedUnit): ObservedUnit | undefined => {
  const { verdict } = unit
  if (verdict.state === 'complete') return unit
  if (verdict.state !== 'settling' || !verdict.isMarked) return undefined
  return { ...unit, verdict: { state: 'complete', completeAt: new Date(unit.modifiedMs).toISOString() } }
}

const longestWaitMs = (pending: readonly ObservedUnit[], leftMs: number): number | undefined => {
  const waits = pending
    .flatMap(({ verdict }) => (verdict.state === 'settling' ? (verdict.waitMs ?? []) : []))
    .filter((waitMs) => waitMs < SPARE_SHARE * leftMs)
  return waits.length === 0 ? undefined : Math.max(...waits) + 5
}

const NO_TIME: Why = { state: 'queued', reason: 'is complete, and there was no time left for it' }

const failed = (error: unknown): Why => ({ state: 'failed', reason: errorText(error) })

const tooLate = (
  unit: ObservedUnit,
  { speed, leftSeconds }: { speed: number; leftSeconds: number },
): Why => ({
  state: 'queued',
  reason: `needs about ${Math.ceil(sizeOf(unit) / speed)} s at ${formatSize(speed)}/s; ${Math.floor(leftSeconds)} s were left`,
})

const named = (sync: string, unit: ObservedUnit): Stored => ({
  sync,
  unit: unit.name,
  isCheckpoint: isCheckpoint(unit),
  sizeBytes: sizeOf(unit),
})

/** What became of the units: what is pending after the last look is left, with the reason. */
export const reportFlush = (
  { sync, pending, bytesPerSecond }: FlushContext,
  { stored = new Map<string, Stored>(), why = new Map<string, Why>(), problem }: Done,
): FlushRecord => {
  const isLate = problem?.code === 'deadline'
  const left = [...pending()].sort(newestFirst).map((unit) => ({
    ...named(sync, unit),
    ...(why.get(unit.name) ??
      (isLate && unit.verdict.state === 'complete'
        ? NO_TIME
        : reasonOf(unit, {
            isCopying: false,
            hasFailed: false,
            isRemoteAway: problem !== undefined && !isLate,
          }))),
  }))
  const leftBytes = left.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const speed = bytesPerSecond()
  return {
    // What changed after its copy is left.
    stored: [...stored.values()].filter(({ unit }) => !left.some((one) => one.unit === unit)),
    left,
    leftBytes,
    secondsNeeded: leftBytes === 0 ? 0 : speed === undefined ? null : Math.ceil(leftBytes / speed),
    problems: problem ? [problem] : [],
  }
}

type Done = {
  readonly stored?: ReadonlyMap<string, Stored>
  readonly why?: ReadonlyMap<string, Why>
  readonly problem?: Problem
}
