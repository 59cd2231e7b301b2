import type { ByteRange } from './byte-ranges.ts'
import type { Line } from './line.ts'

/** Below this a second connection costs more than it brings. */
export const SMALLEST_SHARE = 2 ** 20
/** With less time left than this a line is best left alone. */
const LEAST_LEFT_MS = 1_000
/** A line must have run for this long before its speed says something. */
const WINDOW_MS = 500

/**
 * Takes over the end of the range that would be finished last, so that both connections end together. Without it the
 * slowest connection decides when a file is complete. Undefined when nobody needs that.
 */
export const shareRange = (
  lines: readonly Line[],
  context: { readonly ownSpeed: number | undefined },
): ByteRange | undefined => {
  const [last] = lines.flatMap(expected).toSorted((a, b) => b.leftMs - a.leftMs)
  if (last === undefined) return undefined
  const { line, speed, left } = last
  const own = context.ownSpeed ?? speed
  const part = own + speed === 0 ? 0.5 : own / (own + speed)
  const end = line.end()
  // At least one share stays: it is on its way already.
  const taken = Math.min(left - SMALLEST_SHARE, Math.max(SMALLEST_SHARE, Math.floor(left * part)))
  line.shorten(end - taken)
  return { start: end - taken, end }
}

/** True when a further connection would find something to do. */
export const isWorthSharing = (lines: readonly Line[]): boolean => lines.flatMap(expected).length > 0

const expected = (
  line: Line,
): { readonly line: Line; readonly speed: number; readonly left: number; readonly leftMs: number }[] => {
  const speed = line.speed(WINDOW_MS)
  const left = line.end() - line.position()
  if (speed === undefined || left < 2 * SMALLEST_SHARE) return []
  const leftMs = speed === 0 ? Infinity : left / speed
  return leftMs >= LEAST_LEFT_MS ? [{ line, speed, left, leftMs }] : []
}
