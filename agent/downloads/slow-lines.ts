import type { DropReason, Line } from './line.ts'
import type { SlowRules } from './slow-rules.ts'

/** Below a quarter of what the fast ones bring, a new connection is worth its start. */
const SLOW_PART = 0.25
/** With less left than this, a new connection would come too late. */
const LEAST_LEFT_BYTES = 8 * 2 ** 20
/** Bytes per millisecond (1 KiB/s) that any line brings which is worth waiting for. */
const LEAST_SPEED = 1.024
const STALLED_PART = 0.25

/**
 * The connections that should be given up, and why. They are compared with the fast quarter of them, not with their
 * median: on a content network whose edges are capped, the slow ones can be the majority. Where all are slow, none is.
 */
export const findSlowLines = (
  lines: readonly Line[],
  context: { readonly rules: SlowRules; readonly isTail: boolean },
): readonly { readonly line: Line; readonly why: DropReason }[] => {
  const { rules, isTail } = context
  const measured = lines.map((line) => ({ line, speed: line.speed(rules.windowMs) }))
  const speeds = measured.flatMap(({ speed }) => speed ?? []).toSorted((a, b) => b - a)
  const fast = speeds.length < 2 ? 0 : (speeds[Math.floor((speeds.length - 1) / 4)] ?? 0)
  return measured.flatMap(({ line, speed }) => {
    const crawl = line.speed(rules.crawlMs)
    if (crawl !== undefined && crawl < LEAST_SPEED) return { line, why: 'crawling' as const }
    if (isTail && line.silentMs() > rules.crawlMs * STALLED_PART) return { line, why: 'stalled' as const }
    const isSlow = speed !== undefined && speed < fast * SLOW_PART
    return isSlow && line.end() - line.position() >= LEAST_LEFT_BYTES ? { line, why: 'slow' as const } : []
  })
}

/** Time between two connections given up for being slow; longer each time, so that redialling never becomes the work. */
export const createDropBudget = (nowMs: () => number, rules: SlowRules): { readonly take: () => boolean } => {
  let waitMs = rules.tickMs
  let lastMs = -Infinity
  return {
    take: () => {
      const sinceMs = nowMs() - lastMs
      if (sinceMs < waitMs) return false
      waitMs = sinceMs > 20 * rules.windowMs ? rules.tickMs : Math.min(waitMs * 1.5, 10 * rules.windowMs)
      lastMs = nowMs()
      return true
    },
  }
}
