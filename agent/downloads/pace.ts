/** How many connections to one host are worth having, found by trying. Shared by all files that come from there. */
export type Pace = {
  /** True when one more may be opened now. */
  mayOpen(): boolean
  /** True when there are more than are worth having: whoever has finished a range should not begin another. */
  isOverfull(): boolean
  opened(): void
  closed(): void
  /** Counts bytes that came, and decides when enough time has passed. */
  add(bytes: number): void
  /** The host said that it is too much: 429, or 503 more than once. */
  overloaded(status: number): void
  target(): number
}

/** What fewer connections never do harm with. */
const FIRST_TARGET = 4
/** Reports of hosts that collapse under 64 streams stop here. */
const MOST_TARGET = 32
/** New connections need a moment before they count. */
const SETTLE_MS = 300
const MEASURE_MS = 500
/** Fewer pieces in a window say nothing to within five percent. */
const LEAST_PIECES = 10
/** Less than this is noise; a connection that brings no more only takes from the others. */
const KEPT_GAIN = 1.05
const HOLD_MS = 10_000
const COLLAPSE_PART = 0.5
const COLLAPSE_MS = 5_000

/**
 * Seeks the plateau of what all connections bring together: doubles while that helps, later tries two more now and then,
 * goes back when it did not help, and halves when the host refuses or everything collapses. No fixed number is right:
 * on a capped line every second connection is waste, on a content network one connection is a tenth of the line.
 */
export const createPace = (
  nowMs: () => number,
  /** The connections to all hosts together. */
  all: { open: number; readonly most: number } = { open: 0, most: MOST_TARGET },
): Pace => {
  let open = 0
  let target = FIRST_TARGET
  let kept = FIRST_TARGET
  let step: 'double' | 'two' | 'none' = 'none'
  let doubling = true
  let best = 0
  let bytes = 0
  let pieces = 0
  let settledAt = 0
  let measuredFrom: number | undefined
  let holdUntil = 0
  let collapsedSince: number | undefined
  let wantsMore = false
  let unavailable: number[] = []

  const measureAgain = (settleMs: number): void => {
    bytes = 0
    pieces = 0
    settledAt = nowMs() + settleMs
    measuredFrom = undefined
  }

  const hold = (): void => {
    step = 'none'
    doubling = false
    holdUntil = nowMs() + HOLD_MS
    collapsedSince = undefined
  }

  const raise = (): void => {
    if (!wantsMore || target >= MOST_TARGET || nowMs() < holdUntil) {
      step = 'none'
      return
    }
    kept = target
    step = doubling ? 'double' : 'two'
    target = Math.min(MOST_TARGET, doubling ? target * 2 : target + 2)
    wantsMore = false
    measureAgain(SETTLE_MS)
  }

  const lower = (to: number): void => {
    target = Math.max(1, to)
    kept = target
    best = 0
    hold()
    measureAgain(SETTLE_MS)
  }

  const decide = (goodput: number): void => {
    if (step !== 'none') {
      if (goodput >= best * KEPT_GAIN) best = goodput
      else {
        target = kept
        hold()
        return
      }
    }
    if (goodput < best * COLLAPSE_PART) {
      collapsedSince ??= nowMs()
      if (nowMs() - collapsedSince >= COLLAPSE_MS) lower(Math.max(FIRST_TARGET, Math.floor(target / 2)))
      return
    }
    collapsedSince = undefined
    best = step === 'none' ? goodput : best
    raise()
  }

  return {
    mayOpen: () => {
      if (open < target) return all.open < all.most
      wantsMore = true
      return false
    },
    isOverfull: () => open > target || all.open > all.most,
    opened: () => {
      if (open === 0) measureAgain(SETTLE_MS)
      open += 1
      all.open += 1
    },
    closed: () => {
      open -= 1
      all.open -= 1
      // The end of a file says nothing about the host.
      measureAgain(SETTLE_MS)
    },
    add: (more) => {
      const now = nowMs()
      if (now < settledAt) return
      // The first piece only opens the window: it came in the time before.
      if (measuredFrom === undefined) {
        measuredFrom = now
        return
      }
      bytes += more
      pieces += 1
      const tookMs = now - measuredFrom
      if (tookMs < MEASURE_MS || pieces < LEAST_PIECES) return
      const goodput = bytes / tookMs
      measureAgain(0)
      decide(goodput)
    },
    overloaded: (status) => {
      const now = nowMs()
      unavailable = [...unavailable.filter((at) => now - at < HOLD_MS), now]
      // A single 503 is one bad edge; the connection that met it waits, the others go on.
      if (status !== 429 && unavailable.length < 2) return
      // What several connections meet together is one refusal.
      if (step === 'none' && now < holdUntil - HOLD_MS + 1_000) return
      lower(Math.floor(Math.min(target, Math.max(1, open)) / 2))
    },
    target: () => target,
  }
}

/**
 * One pace for each host, remembered as long as the program runs. `mostConnections` is for all hosts together, beside the
 * first of each file.
 */
export const createPaces = (nowMs: () => number, mostConnections: number): ((host: string) => Pace) => {
  const paces = new Map<string, Pace>()
  const all = { open: 0, most: mostConnections }
  return (host) => {
    const known = paces.get(host) ?? createPace(nowMs, all)
    paces.set(host, known)
    return known
  }
}
