import type { Problem } from '../../shared/contract/errors.ts'
import { problemFrom } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { PlannedSync } from './planned-sync.ts'
import type { SyncStore } from './sync-store.ts'

const LONGEST_BACKOFF_MS = 300_000
/** Nothing that trying again cures soon: new credentials, room or a new manifest do. */
const BLOCKED_MS: Readonly<Partial<Record<Problem['code'], number>>> = {
  sync_auth: 900_000,
  sync_config: 900_000,
  program_missing: 900_000,
  sync_quota: 3_600_000,
}
const FAILING_AFTER = 3
const LATE_AFTER = 3

/** How a sync is doing: its successes and failures in a row, and when the next try is due. Kept over restarts. */
export const createSyncHealth = (
  { spec }: PlannedSync,
  deps: { clock: Clock; report: Report; log: Log; store: SyncStore; random: () => number },
) => {
  const { clock, report, store } = deps
  const kept = store.health(spec.name)
  let { lastSuccessAt, consecutiveFailures: failures, problem } = kept
  // A sync that fails already goes on being late; one that was well begins anew, since the box may have been off.
  const ageMs = (at: string): number => Math.max(0, clock.now().getTime() - Date.parse(at))
  let lastSuccessMs =
    clock.monotonicMs() - (failures > 0 && lastSuccessAt !== null ? ageMs(lastSuccessAt) : 0)
  let nextAttemptMs = 0
  /** A failure or two in a row are weather, unless trying again cures nothing. */
  const isFailing = (): boolean =>
    problem !== null && (failures >= FAILING_AFTER || BLOCKED_MS[problem.code] !== undefined)
  // Kinds of trouble since it last worked: each is told once, however often they take turns.
  const told = new Set(problem && isFailing() ? [problem.code] : [])

  /** A state that cannot be written (a full disk) must not hide how the sync is doing now. */
  const keep = (): void => {
    try {
      store.saveHealth(spec.name, { lastSuccessAt, consecutiveFailures: failures, problem })
    } catch (error) {
      deps.log.error('how a sync is doing could not be kept', { sync: spec.name, error: errorText(error) })
    }
  }

  return {
    succeeded: (): void => {
      if (told.size > 0) report({ type: 'sync.recovered', subject: spec.name, data: { failures, problem } })
      lastSuccessAt = clock.now().toISOString()
      lastSuccessMs = clock.monotonicMs()
      failures = 0
      problem = null
      told.clear()
      nextAttemptMs = 0
      keep()
    },

    failed: (error: unknown): void => {
      failures += 1
      const now = problemFrom(error, spec.name)
      problem = now
      if (isFailing() && !told.has(now.code)) {
        report({ type: 'sync.failed', subject: spec.name, data: { problem: now, failures, lastSuccessAt } })
        told.add(now.code)
      }
      deps.log.warn('sync failed', { sync: spec.name, code: now.code, error: now.message, failures })
      const longestMs = Math.min(LONGEST_BACKOFF_MS, 1_000 * 2 ** failures)
      // Half of it is chance, so that boxes that failed together do not come back together.
      const waitMs = BLOCKED_MS[now.code] ?? longestMs * (0.5 + deps.random() / 2)
      nextAttemptMs = clock.monotonicMs() + waitMs
      keep()
    },

    lastSuccessAt: (): string | null => lastSuccessAt,
    failures: (): number => failures,
    problem: (): Problem | null => problem,
    /** True when trying again soon is worth it. */
    isRetrying: (): boolean => failures > 0 && !isFailing(),
    /** Milliseconds until the next try after a failure; 0 when it is due. */
    retryInMs: (): number => Math.max(0, nextAttemptMs - clock.monotonicMs()),
    /** True when the last success, or the start of the agent, is more than three times `every` ago. */
    isLate: (): boolean => clock.monotonicMs() - lastSuccessMs > LATE_AFTER * spec.every,
  }
}
