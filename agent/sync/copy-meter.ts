import type { SyncRow } from '../../shared/contract/records.ts'
import type { Clock } from '../platform/clock.ts'

/** The speed is that of the last seconds: an average since the start would hide a link that has become slow. */
const WINDOW_MS = 10_000
/** Pieces of a local copy come hundreds of times a second; a sample for each step is enough. */
const STEP_MS = 200
/** The first bytes tell nothing of how long the rest will take. */
const SURE_AFTER_MS = 2_000
const MEASURED_BYTES = 4 * 2 ** 20

export type CopyMeter = ReturnType<typeof createCopyMeter>

/** How far the copy that is under way has come. */
export const createCopyMeter = (clock: Clock) => {
  let copy: { readonly units: readonly string[]; readonly bytesTotal: number; bytesDone: number } | undefined
  let samples: { readonly atMs: number; readonly bytes: number }[] = []
  let movedMs = Number.NEGATIVE_INFINITY
  let beganMs = 0
  let lastSpeed: number | undefined

  const bytesPerSecond = (): number => {
    const [first] = samples
    const last = samples.at(-1)
    if (!copy || !first || !last) return 0
    const spanMs = clock.monotonicMs() - first.atMs
    // A copy that stands still becomes slower by the time that passes.
    return spanMs > 0 ? Math.round((1000 * (last.bytes - first.bytes)) / spanMs) : 0
  }

  const leftMs = (): number => {
    if (!copy) return Number.POSITIVE_INFINITY
    const left = copy.bytesTotal - copy.bytesDone
    return left === 0 ? 0 : (1000 * left) / bytesPerSecond()
  }

  return {
    begin: (units: readonly string[], bytesTotal: number): void => {
      copy = { units, bytesTotal, bytesDone: 0 }
      beganMs = movedMs = clock.monotonicMs()
      samples = [{ atMs: movedMs, bytes: 0 }]
    },
    /** @param bytesDone of the copy as a whole; the carrier may count what it sent twice */
    moved: (bytesDone: number): void => {
      if (!copy) return
      copy.bytesDone = Math.min(bytesDone, copy.bytesTotal)
      movedMs = clock.monotonicMs()
      const [last, before] = [samples.at(-1), samples.at(-2)]
      if (last && before && last.atMs - before.atMs < STEP_MS) samples.pop()
      samples.push({ atMs: movedMs, bytes: copy.bytesDone })
      // The last one before the window is where it begins.
      while (movedMs - (samples[1]?.atMs ?? movedMs) > WINDOW_MS) samples.shift()
    },
    end: (): void => {
      const tookMs = clock.monotonicMs() - beganMs
      // Of a small copy the overhead is measured, not the way.
      if (copy && copy.bytesDone >= MEASURED_BYTES && tookMs > 0)
        lastSpeed = Math.round((1000 * copy.bytesDone) / tookMs)
      copy = undefined
      samples = []
    },
    isUnderWay: (): boolean => copy !== undefined,
    isCopying: (unit: string): boolean => copy?.units.includes(unit) ?? false,
    bytesDone: (): number => copy?.bytesDone ?? 0,
    /** Milliseconds since a copy last made progress; infinite when none is under way. */
    stillForMs: (): number => (copy ? clock.monotonicMs() - movedMs : Number.POSITIVE_INFINITY),
    /** How long the copy under way will take at its speed; infinite where none is or nothing moves. */
    leftMs,
    /** Of the last large copy as a whole; undefined before one was made. */
    lastBytesPerSecond: (): number | undefined => lastSpeed,
    row: (): SyncRow['copying'] => {
      if (!copy) return null
      const { units, bytesTotal, bytesDone } = copy
      const speed = bytesPerSecond()
      const isSure = clock.monotonicMs() - beganMs > SURE_AFTER_MS
      const etaSeconds = speed > 0 && isSure ? Math.ceil(leftMs() / 1000) : null
      return { unit: nameOf(units), bytesDone, bytesTotal, bytesPerSecond: speed, etaSeconds }
    },
  }
}

/** Small units are copied together. */
const nameOf = ([first = '', ...others]: readonly string[]): string =>
  others.length === 0 ? first : `${first} and ${others.length} more`
