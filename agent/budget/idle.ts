/*
 * How long nothing has spoken against the box being idle. Only looks count: a time without one (the agent was away, the
 * machine was paused) begins the window anew.
 */

export type IdleWindow = {
  /** When the box was first seen idle, monotonic; null: it is busy, or was never looked at. */
  readonly sinceMs: number | null
  readonly lookedAtMs: number | null
  /** Why it is not idle, as of the last look. */
  readonly busy: readonly string[]
}

/** Longer than this without a look is a hole in the evidence. */
const LONGEST_HOLE_MS = 3 * 60_000

/** Nothing is known yet, so the box counts as busy. */
export const NOT_LOOKED: IdleWindow = {
  sinceMs: null,
  lookedAtMs: null,
  busy: ['the agent has only just begun to look'],
}

/** The window after one more look. */
export const lookAgain = (
  before: IdleWindow,
  look: { readonly busy: readonly string[]; readonly nowMs: number },
): IdleWindow => {
  const { busy, nowMs } = look
  const hasHole = before.lookedAtMs !== null && nowMs - before.lookedAtMs > LONGEST_HOLE_MS
  const sinceMs = busy.length > 0 ? null : hasHole ? nowMs : (before.sinceMs ?? nowMs)
  return { sinceMs, lookedAtMs: nowMs, busy }
}

/** For how long the box has been idle. */
export const idleForMs = ({ sinceMs, lookedAtMs }: IdleWindow): number =>
  sinceMs === null || lookedAtMs === null ? 0 : lookedAtMs - sinceMs
