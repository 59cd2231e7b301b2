import type { AgentError } from '../../shared/contract/errors.ts'
import { ERROR_CODES, EXIT } from '../../shared/contract/errors.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import { sleep } from '../wait.ts'
import type { Pulled } from './pull-checkpoint.ts'

export type WatchDeps = {
  readonly everyMs: number
  /** One pull; `proven` is the digest that the last one brought. */
  readonly pull: (proven: string | undefined) => Promise<Pulled>
  readonly onPulled: (pulled: Pulled) => void
  /** Told once for each new trouble. */
  readonly onTrouble: (error: AgentError) => void
  readonly signal: AbortSignal
}

/** A box that is away is looked for at least this often, so that a laptop that wakes goes on soon. */
const RETRY_MS = 30_000

/**
 * Brings the newest checkpoint whenever there is a new one, for days: a box that is away, restarts or has no checkpoint yet is waited for.
 * @throws AgentError what repeating does not repair: a token that never worked, a box that names unsafe paths
 */
export const watchCheckpoint = async (deps: WatchDeps): Promise<never> => {
  const { everyMs, signal } = deps
  let proven: string | undefined
  let told: string | undefined
  for (let round = 1; ; round += 1) {
    let pauseMs = everyMs
    try {
      const pulled = await deps.pull(proven)
      if (!pulled.unchanged || proven === undefined) deps.onPulled(pulled)
      proven = pulled.digest
      told = undefined
    } catch (error) {
      const known = connectionError(error, signal, 'the box')
      const neverWorked = round === 1 && ERROR_CODES[known.code].exit === EXIT.notAuthenticated
      if (signal.aborted || neverWorked || known.code === 'unsafe_path') throw known
      if (isPassing(known)) pauseMs = Math.min(everyMs, RETRY_MS)
      if (told !== known.message) deps.onTrouble(known)
      told = known.message
    }
    await sleepAwake(pauseMs, { signal })
  }
}

const SLICE_MS = 5_000

/**
 * Waits by the clock on the wall too: while a machine sleeps its timers stand still, so one of two minutes would end
 * two minutes after it woke.
 */
export const sleepAwake = async (
  ms: number,
  { signal, nowMs = Date.now }: { signal: AbortSignal; nowMs?: () => number },
): Promise<void> => {
  const startedMs = nowMs()
  for (let leftMs = ms; leftMs > 0; leftMs -= SLICE_MS) {
    await sleep(Math.min(leftMs, SLICE_MS), signal)
    if (nowMs() - startedMs >= ms) return
  }
}
