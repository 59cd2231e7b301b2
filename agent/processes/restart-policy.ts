import type { ProcessSpec } from '../../shared/manifest/schema.ts'

/** How a job ended, as the policy sees it. `lost`: nobody knows. */
export type JobEnd = { readonly kind: 'exit'; readonly success: boolean } | { readonly kind: 'lost' }

export type RestartDecision =
  | { readonly kind: 'finished' }
  | { readonly kind: 'failed' }
  | { readonly kind: 'crash-looping'; readonly exits: number }
  | { readonly kind: 'restart'; readonly delayMs: number }

export type RestartHistory = {
  /** Monotonic times of the exits in the window, this one last. */
  readonly exitsMs: readonly number[]
  /** Restarts since the last time it was healthy for long. */
  readonly attempts: number
}

/** Of a process that was not started before, or was started on request. */
export const NO_EXITS: RestartHistory = { exitsMs: [], attempts: 0 }

const WINDOW_MS = 600_000
const EXITS_IN_WINDOW = 5
const HEALTHY_MS = 300_000
const FIRST_DELAY_MS = 1_000
const LONGEST_DELAY_MS = 60_000

/**
 * What follows the end of a job that nobody asked for. Delays are 1, 2, 4 … 60 s, up to a quarter longer by chance, so
 * that several processes with one cause do not come back in step. Five exits in ten minutes end it.
 * A job that was lost is not run again by itself: it may have done half of its work.
 * @param options.random a number from 0 to 1
 */
export const decideRestart = (
  end: JobEnd,
  options: {
    readonly spec: Pick<ProcessSpec, 'restart' | 'retries'>
    readonly history: RestartHistory
    readonly random: () => number
  },
): RestartDecision => {
  const { spec, history } = options
  const success = end.kind === 'exit' && end.success
  if (spec.restart !== 'always') {
    if (success) return { kind: 'finished' }
    if (spec.restart === 'never' || end.kind === 'lost' || history.attempts >= spec.retries)
      return { kind: 'failed' }
  }
  if (history.exitsMs.length >= EXITS_IN_WINDOW)
    return { kind: 'crash-looping', exits: history.exitsMs.length }
  const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(history.attempts, 10))
  return { kind: 'restart', delayMs: Math.round(delayMs * (1 + options.random() / 4)) }
}

/** The history with one more exit: forgets what is out of the window, and everything after five healthy minutes. */
export const addExit = (
  history: RestartHistory,
  exit: { readonly atMs: number; readonly ranMs: number },
): RestartHistory => {
  const before = exit.ranMs >= HEALTHY_MS ? NO_EXITS : history
  return {
    exitsMs: [...before.exitsMs, exit.atMs].filter((atMs) => exit.atMs - atMs < WINDOW_MS),
    attempts: before.attempts,
  }
}
