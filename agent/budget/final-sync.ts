import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { FlushRecord } from '../../shared/contract/records.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { StopReason } from './memory.ts'
import { within } from './within.ts'

export type FinalSyncDeps = {
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  readonly flush: (options: { deadlineMs: number; signal: AbortSignal }) => Promise<FlushRecord>
}

const FLUSH_MS = 3 * 60_000
const SHORTEST_FLUSH_MS = 15_000
/** A hung final sync is left behind this much later. */
const SPARE_MS = 10_000
const LOOK_EVERY_MS = 10_000

/**
 * Before the box is stopped: copies what can be copied, until its deadline or until something speaks against the stop.
 * What fails is told and keeps nothing running: the box is stopped, not destroyed, and its disk stays.
 * @throws the signal's reason
 */
export const runFinalSync = async (
  stop: { readonly reason: StopReason; readonly lateMs: number },
  context: FinalSyncDeps & {
    readonly objection: (signal: AbortSignal) => Promise<string | undefined>
    readonly signal: AbortSignal
  },
): Promise<void> => {
  const { clock, report, log, signal } = context
  const deadlineMs = Math.max(SHORTEST_FLUSH_MS, FLUSH_MS - stop.lateMs)
  const data = { reason: stop.reason, finalSyncSeconds: deadlineMs / 1000 }
  report({ type: 'budget.stopping', subject: 'budget', data })
  const over = new AbortController()
  const both = AbortSignal.any([signal, over.signal])
  const lookOn = async (): Promise<void> => {
    while (!isAborted(both)) {
      await clock.sleep(LOOK_EVERY_MS, both)
      const against = await context.objection(both)
      if (against !== undefined) over.abort(new AgentError('cancelled', against))
    }
  }
  const looking = lookOn().catch(() => undefined)
  try {
    const { stored, left, leftBytes, problems } = await within(
      (one) => context.flush({ deadlineMs, signal: one }),
      { ms: deadlineMs + SPARE_MS, what: 'the final sync', clock, signal: both },
    )
    const done = { stored: stored.length, leftBytes, left: left.slice(0, 20), problems }
    report({ type: 'budget.final-sync', subject: 'budget', data: done })
  } catch (error) {
    signal.throwIfAborted()
    report({ type: 'budget.final-sync', subject: 'budget', data: { failed: errorText(error) } })
    if (!over.signal.aborted)
      log.error('the final sync failed; the box is stopped nevertheless', { error: errorText(error) })
  } finally {
    over.abort(new AgentError('cancelled', 'the final sync is over'))
    await looking
  }
}

/** Behind a function, so that the compiler does not take the loop's condition for still true. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted
