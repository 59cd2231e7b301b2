import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { Account } from './account.ts'
import type { Evidence } from './evidence.ts'
import { gatherBusy, SYNC } from './evidence.ts'
import type { IdleWindow } from './idle.ts'
import { idleForMs, lookAgain, NOT_LOOKED } from './idle.ts'
import type { StopReason } from './memory.ts'

/** From the announcement to the final sync: the time to object. */
export const ANNOUNCE_MS = 5 * 60_000
/** After a boot nobody is stopped for idleness; after a stop of our own, not for a limit either. */
const GRACE_MS = 15 * 60_000

/** Whether the box is to be stopped, and what speaks against it: the limits of the account, and the idle window. */
export const createDue = (deps: {
  readonly account: Account
  readonly clock: Clock
  readonly report: Report
  readonly evidence: readonly Evidence[]
}) => {
  const { account, clock, report } = deps
  let idle: IdleWindow = NOT_LOOKED
  let toldIdle = false

  const look = async (signal: AbortSignal, evidence = deps.evidence): Promise<void> => {
    const busy = await gatherBusy(evidence, { clock, signal })
    idle = lookAgain(idle, { busy, nowMs: clock.monotonicMs() })
  }

  /** The limit that is reached within `ms`, unless the box may run on for its grace. */
  const limitWithin = (ms: number): StopReason | null => {
    const left = account.timeLeft()
    if (left === null || left.ms > ms) return null
    const { boot, uptimeMs, bootUptimeMs } = account.now()
    if (account.memory().graceBoot === boot && uptimeMs - bootUptimeMs < GRACE_MS) return null
    return left.kind
  }

  const isIdleHeld = (): boolean => {
    const { boot, uptimeMs, bootUptimeMs } = account.now()
    const { idleHold } = account.memory()
    return (
      uptimeMs - bootUptimeMs < GRACE_MS ||
      (idleHold !== null && idleHold.boot === boot && uptimeMs < idleHold.untilUptimeMs)
    )
  }

  const idleDue = (): boolean => {
    const after = account.planned()?.idleAfterMs ?? null
    return after !== null && idleForMs(idle) >= after && !isIdleHeld()
  }

  return {
    /** Why the box is not idle, and for how long it is. */
    idle: () => idle,
    /** What was seen before does not count any more. */
    forget: (): void => {
      idle = NOT_LOOKED
    },

    /** The reason to stop the box, now. */
    find: async (signal: AbortSignal): Promise<StopReason | null> => {
      const planned = account.planned()
      if (planned === null) return null
      if (planned.idleAfterMs !== null) await look(signal)
      if (!idleDue()) toldIdle = false
      if (planned.onLimit === 'stop') {
        const reason = limitWithin(ANNOUNCE_MS) ?? (idleDue() ? 'idle' : null)
        // What an earlier agent announced was extended meanwhile: the next announcement gets its own time.
        if (reason === null && account.memory().announced !== null) account.change({ announced: null })
        return reason
      }
      if (idleDue() && !toldIdle) {
        toldIdle = true
        report({ type: 'budget.idle', subject: 'budget', data: account.figures() })
      }
      return null
    },

    /**
     * Undefined while the reason holds, else what is against it. Once the stop has begun, the final sync is no work that
     * speaks against it, and an agent that was restarted in between need not see the whole idle window again.
     */
    objection: async (
      { reason, hasBegun }: { readonly reason: StopReason; readonly hasBegun: boolean },
      signal: AbortSignal,
    ): Promise<string | undefined> => {
      const planned = account.planned()
      if (planned === null || planned.onLimit !== 'stop') return 'the manifest does not ask for it any more'
      if (reason !== 'idle')
        return limitWithin(ANNOUNCE_MS) === null ? 'the limit is further away now' : undefined
      // Whoever comes back to an idle box whose limit was reached meanwhile finds no idle box to keep.
      if (limitWithin(0) !== null) return undefined
      if (planned.idleAfterMs === null) return 'the manifest does not ask for it any more'
      await look(signal, hasBegun ? deps.evidence.filter(({ name }) => name !== SYNC) : deps.evidence)
      if (idle.busy[0] !== undefined) return idle.busy[0]
      if (isIdleHeld()) return 'the box is kept for longer'
      const isProven = account.memory().intent !== null || idleForMs(idle) >= planned.idleAfterMs
      return isProven ? undefined : 'there was a hole in the evidence'
    },
  }
}
