import { AgentError } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { Carrier } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import type { ObservedUnit } from './observe-units.ts'
import { newestFirst } from './order-units.ts'
import { sealUnit } from './seal-unit.ts'
import { recordPath } from './store-unit.ts'
import { MARKER_FILES, pathInUnit, sizeOf } from './unit.ts'

export type FlushOptions = {
  /** When it has to be over, from now. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** Larger units are left alone: an agent that is only restarted goes on with them. */
  readonly largestUnitBytes?: number
}

/** What a flush brought to the remotes, and what it did not. */
export type FlushReport = {
  readonly flushed: readonly FlushedUnit[]
  readonly unflushedBytes: number
  /** Units that no remote holds as they are now. */
  readonly lost: readonly FlushedUnit[]
}
export type FlushedUnit = { readonly sync: string; readonly unit: string }

export type FlushContext = FlushOptions & {
  readonly sync: string
  readonly clock: Clock
  readonly log: Log
  readonly root: string
  readonly hashFile: HashFile
  readonly carrier: () => Promise<Carrier>
  /** As measured by earlier copies; undefined: none was made yet. */
  readonly bytesPerSecond: number | undefined
  readonly copy: (unit: ObservedUnit, signal: AbortSignal) => Promise<void>
}

/** A careful guess for a remote that nothing was copied to yet. */
const UNKNOWN_BYTES_PER_SECOND = 10_000_000
/** A part of the time for listing, comparing and the record. */
const SPARE_SHARE = 0.8
/** Files and units of this size are worth their seconds whatever else is pending. */
const SMALL_BYTES = 8 * 2 ** 20

/**
 * The last copies before the box goes away: the newest complete unit first, nothing that cannot end in time (a copy
 * that is cut off is worth nothing). Where the time is short, small units come first, then the small files of the
 * newest unit that is too large, without what would make it look whole: they may save the run.
 * A remote that fails ends the flush of this sync; the report says what is lost.
 */
export const flushPending = async (
  pending: readonly ObservedUnit[],
  context: FlushContext,
): Promise<FlushReport> => {
  const { sync, log } = context
  const flushed = new Set<string>()
  try {
    await flushInTime(pending, { ...context, onFlushed: (unit) => flushed.add(unit.name) })
  } catch (error) {
    log.warn('a flush ended early', { sync, message: errorText(error) })
  }
  const lost = pending.filter(({ name }) => !flushed.has(name))
  return {
    flushed: [...flushed].map((unit) => ({ sync, unit })),
    unflushedBytes: lost.reduce((sum, unit) => sum + sizeOf(unit), 0),
    lost: lost.map(({ name }) => ({ sync, unit: name })),
  }
}

const flushInTime = async (
  pending: readonly ObservedUnit[],
  context: FlushContext & { readonly onFlushed: (unit: ObservedUnit) => void },
): Promise<void> => {
  const { clock, deadlineMs, largestUnitBytes = Number.POSITIVE_INFINITY } = context
  const endsAtMs = clock.monotonicMs() + deadlineMs
  const late = new AgentError('deadline', `the flush had ${deadlineMs} ms`)
  const deadline = new AbortController()
  const timer = setTimeout(() => deadline.abort(late), deadlineMs)
  const signal = AbortSignal.any([context.signal, deadline.signal])
  const speed = context.bytesPerSecond ?? UNKNOWN_BYTES_PER_SECOND
  const fits = (bytes: number): boolean =>
    bytes <= ((endsAtMs - clock.monotonicMs()) / 1000) * SPARE_SHARE * speed

  try {
    const copyIfItFits = async (unit: ObservedUnit): Promise<void> => {
      if (!fits(sizeOf(unit))) return
      signal.throwIfAborted()
      await context.copy(unit, signal)
      context.onFlushed(unit)
    }
    const complete = pending
      .flatMap((unit) => asComplete(unit) ?? [])
      .filter((unit) => sizeOf(unit) <= largestUnitBytes)
      .sort(newestFirst)
    const isShort = !fits(complete.reduce((sum, unit) => sum + sizeOf(unit), 0))
    const [small, large] = isShort
      ? [complete.filter(isSmall), complete.filter((unit) => !isSmall(unit))]
      : [complete, []]
    const tooLarge = large.find((unit) => !fits(sizeOf(unit)))
    for (const unit of small) await copyIfItFits(unit)
    if (tooLarge) await putSmallFiles(tooLarge, { ...context, signal })
    for (const unit of large) await copyIfItFits(unit)
  } finally {
    clearTimeout(timer)
  }
}

const isSmall = (unit: ObservedUnit): boolean => sizeOf(unit) <= SMALL_BYTES

/** What a marker says to be complete need not rest any more. */
const asComplete = (unit: ObservedUnit): ObservedUnit | undefined => {
  const { verdict } = unit
  if (verdict.state === 'complete') return unit
  if (verdict.state !== 'settling' || !verdict.isMarked) return undefined
  return { ...unit, verdict: { state: 'complete', completeAt: new Date(unit.modifiedMs).toISOString() } }
}

const putSmallFiles = async (unit: ObservedUnit, context: FlushContext): Promise<void> => {
  const { root, hashFile, signal } = context
  const files = unit.files.filter(
    (file) => file.sizeBytes <= SMALL_BYTES && !MARKER_FILES.includes(pathInUnit(unit, file.path)),
  )
  if (files.length === 0) return
  const carrier = await context.carrier()
  const record = recordPath(unit.name)
  // An older unit of this name lies there whole: nothing of it is replaced by parts.
  if ((await carrier.list([record], { signal })).has(record)) return
  const completeAt = new Date(unit.modifiedMs).toISOString()
  const sealed = await sealUnit({ ...unit, files }, { root, completeAt, hashFile, signal })
  try {
    await carrier.put(sealed.files, { signal, last: new Set() })
  } finally {
    await sealed.close()
  }
}
