import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { FlushRecord } from '../../shared/contract/records.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { Instance } from '../../shared/providers/provider.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Account } from './account.ts'
import { ANNOUNCE_MS, createDue } from './due.ts'
import type { Evidence } from './evidence.ts'
import { runFinalSync } from './final-sync.ts'
import type { StopReason } from './memory.ts'
import type { OwnBox } from './own-box.ts'
import { isStillStopped, noWayToStop, stopOnce } from './stop-box.ts'

export type GuardDeps = {
  readonly account: Account
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  readonly evidence: readonly Evidence[]
  /** Null: nothing is known that could stop this box. */
  readonly box: () => OwnBox | null
  readonly flush: (options: { deadlineMs: number; signal: AbortSignal }) => Promise<FlushRecord>
}

export type GuardState = 'watching' | 'announced' | 'stopping' | 'stop-failed' | 'stopped'

const LOOK_EVERY_MS = 30_000
/** While a stop is announced, what speaks against it should count soon. */
const LOOK_SOON_MS = 10_000
const RETRY_MS = [5_000, 15_000, 30_000, 60_000] as const
/** A stop that was confirmed is looked at again: somebody may have started the box under us. */
const LOOK_AFTER_STOP_MS = 60_000
/** The same failure is told again after this long. */
const TELL_AGAIN_MS = 30 * 60_000

/**
 * Watches the limits and the idleness, and stops the box:
 *
 *   watching → announced → final sync → intent on disk → stop, read back → stopped
 *                  ↘ what spoke for it is over: watching      ↘ stop-failed, tried again for ever
 *
 * Before each step the reason is looked at again, so that an extension, or work that began, ends it at any point.
 */
export const createGuard = (deps: GuardDeps) => {
  const { account, clock, report, log } = deps
  let state: GuardState = 'watching'
  let problem: Problem | null = null
  const due = createDue(deps)
  const objection = (reason: StopReason, signal: AbortSignal): Promise<string | undefined> =>
    due.objection({ reason, hasBegun: state !== 'announced' }, signal)
  let idleStopAtUptimeMs: number | null = null
  let told = { message: '', atMs: 0 }
  let woken = Promise.withResolvers<undefined>()

  const cancel = (reason: StopReason, because: string): void => {
    account.change({ announced: null, intent: null })
    idleStopAtUptimeMs = null
    state = 'watching'
    problem = null
    told = { message: '', atMs: 0 }
    report({ type: 'budget.stop-cancelled', subject: 'budget', data: { reason, because } })
  }

  const stopAtUptimeMs = (): number | null => {
    const { announced } = account.memory()
    return announced !== null && announced.boot === account.now().boot
      ? announced.stopAtUptimeMs
      : idleStopAtUptimeMs
  }

  /** Announces the stop and waits until it is due. A restarted agent keeps to what was announced. */
  const announce = async (reason: StopReason, signal: AbortSignal): Promise<boolean> => {
    state = 'announced'
    const { boot, uptimeMs, wallMs } = account.now()
    if (stopAtUptimeMs() === null) {
      const stopAt = uptimeMs + ANNOUNCE_MS
      // Idleness is found anew by each agent; what it was before a restart is not known.
      if (reason === 'idle') idleStopAtUptimeMs = stopAt
      else account.change({ announced: { boot, reason, stopAtUptimeMs: stopAt } })
      report({
        type: 'budget.stop-announced',
        subject: 'budget',
        data: { reason, stopAt: new Date(wallMs + ANNOUNCE_MS).toISOString(), ...account.figures() },
      })
    }
    for (;;) {
      const against = await objection(reason, signal)
      if (against !== undefined) {
        cancel(reason, against)
        return false
      }
      const leftMs = (stopAtUptimeMs() ?? 0) - account.now().uptimeMs
      if (leftMs <= 0) return true
      await nap(Math.min(leftMs, LOOK_SOON_MS), signal)
    }
  }

  const flush = async (reason: StopReason, signal: AbortSignal): Promise<void> => {
    state = 'stopping'
    // However often the agent dies meanwhile, the final sync is over at its own time.
    const { uptimeMs } = account.now()
    const lateMs = uptimeMs - (stopAtUptimeMs() ?? uptimeMs)
    await runFinalSync({ reason, lateMs }, { ...deps, signal, objection: (one) => objection(reason, one) })
  }

  /** As sleep, but over at once when the budget changes. */
  const nap = async (ms: number, signal: AbortSignal): Promise<void> => {
    const over = new AbortController()
    try {
      await Promise.race([clock.sleep(ms, AbortSignal.any([signal, over.signal])), woken.promise])
    } finally {
      woken = Promise.withResolvers()
      over.abort(new AgentError('cancelled', 'woken'))
    }
  }

  const tellFailure = (error: unknown): void => {
    state = 'stop-failed'
    problem = problemFrom(error, 'budget')
    const nowMs = clock.monotonicMs()
    log.error(problem.message, { hint: problem.hint })
    if (told.message === problem.message && nowMs - told.atMs < TELL_AGAIN_MS) return
    told = { message: problem.message, atMs: nowMs }
    report({ type: 'budget.stop-failed', subject: 'budget', data: { problem } })
  }

  /** Stops the box and does not give up, until it is true or not wanted any more. */
  const carryOut = async (reason: StopReason, signal: AbortSignal): Promise<void> => {
    if (state !== 'stop-failed') state = 'stopping'
    for (let attempt = 0; ; attempt += 1) {
      const against = await objection(reason, signal)
      if (against !== undefined) {
        cancel(reason, against)
        return
      }
      try {
        const box = deps.box()
        if (box === null) throw noWayToStop()
        if (state !== 'stopped' || !(await isStillStopped(box, { clock, signal })))
          keepPrice(await stopOnce(box, { clock, signal, objection: (one) => objection(reason, one) }))
        if (state !== 'stopped') report({ type: 'budget.stopped', subject: 'budget', data: { reason } })
        state = 'stopped'
        problem = null
        await clock.sleep(LOOK_AFTER_STOP_MS, signal)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof AgentError && error.code === 'cancelled') continue
        tellFailure(error)
        await clock.sleep(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)] ?? 60_000, signal)
      }
    }
  }

  /** A stopped box tells what its storage costs. */
  const keepPrice = ({ state: read, usdPerHour }: Instance): void => {
    if (read === 'stopped' && usdPerHour !== null)
      account.setPrices({ ...account.memory().prices, stopped: usdPerHour })
  }

  return {
    state: () => state,
    problem: () => problem,
    /** Why the box is not idle, and for how long it is. */
    idle: due.idle,
    stopAtUptimeMs,
    /** The budget has changed: it is looked at now. */
    wake: (): void => woken.resolve(undefined),

    run: async (signal: AbortSignal): Promise<void> => {
      due.forget()
      for (;;) {
        const { intent } = account.memory()
        if (intent !== null) {
          await carryOut(intent.reason, signal)
          continue
        }
        const reason = await due.find(signal)
        if (reason === null) {
          await nap(LOOK_EVERY_MS, signal)
          continue
        }
        if (!(await announce(reason, signal))) continue
        await flush(reason, signal)
        const against = await objection(reason, signal)
        if (against === undefined) {
          // On disk before the call: whatever becomes of this agent, the next one goes on with the stop.
          const { boot, wallMs } = account.now()
          const at = new Date(wallMs).toISOString()
          account.change({ announced: null, intent: { boot, reason, at } })
          idleStopAtUptimeMs = null
        } else cancel(reason, against)
      }
    },
  }
}
