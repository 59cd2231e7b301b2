import type { Clock } from '../platform/clock.ts'

/** Things that people and programs do through the agent, for as long as they last: a terminal, a page, an install. */
export type OpenWork = {
  /** Something begins; call what comes back, once or more often, when it is over. */
  readonly enter: (what: string) => () => void
  /** The same for work that ends by itself. */
  readonly during: <T>(what: string, work: () => Promise<T>) => Promise<T>
  /** What is going on, or was a moment ago. */
  readonly busy: () => readonly string[]
}

/** Longer than the time between two looks, so that no request falls between them. */
const RECENT_MS = 90_000
/** A page asks for many things at once, all under one name. */
const MOST_NAMES = 100

export const createOpenWork = (clock: Pick<Clock, 'monotonicMs'>): OpenWork => {
  const open = new Map<string, number>()
  const endedAtMs = new Map<string, number>()
  const enter = (what: string): (() => void) => {
    open.set(what, (open.get(what) ?? 0) + 1)
    let isOpen = true
    return () => {
      if (!isOpen) return
      isOpen = false
      const left = (open.get(what) ?? 1) - 1
      if (left > 0) open.set(what, left)
      else open.delete(what)
      endedAtMs.delete(what)
      endedAtMs.set(what, clock.monotonicMs())
      const [oldest] = endedAtMs.keys()
      if (oldest !== undefined && endedAtMs.size > MOST_NAMES) endedAtMs.delete(oldest)
    }
  }
  return {
    enter,
    during: (what, work) => work().finally(enter(what)),
    busy: () => {
      const nowMs = clock.monotonicMs()
      for (const [what, atMs] of endedAtMs) if (nowMs - atMs > RECENT_MS) endedAtMs.delete(what)
      return [
        ...[...open.keys()].map((what) => `${what} is open`),
        ...[...endedAtMs.keys()]
          .filter((what) => !open.has(what))
          .map((what) => `${what} was used a moment ago`),
      ]
    },
  }
}
