import { AgentError } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'

/**
 * Work that has to be over in time, also where it does not listen to its signal.
 * @throws AgentError deadline; what the work throws; the signal's reason
 */
export const within = async <T>(
  work: (signal: AbortSignal) => Promise<T>,
  context: {
    readonly ms: number
    readonly what: string
    readonly clock: Clock
    readonly signal: AbortSignal
  },
): Promise<T> => {
  const { ms, what, clock, signal } = context
  signal.throwIfAborted()
  const over = new AbortController()
  const timer = new AbortController()
  const both = AbortSignal.any([signal, over.signal])
  const late = new AgentError('deadline', `${what} took longer than ${ms / 1000} s`)
  const aborted = Promise.withResolvers<never>()
  both.addEventListener('abort', () => aborted.reject(both.reason as Error), { once: true })
  clock.sleep(ms, timer.signal).then(
    () => over.abort(late),
    // The work was over first.
    () => undefined,
  )
  try {
    return await Promise.race([work(both), aborted.promise])
  } finally {
    timer.abort(late)
  }
}
