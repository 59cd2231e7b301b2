import { AgentError } from '../../shared/contract/errors.ts'
import type { Clock } from './clock.ts'
import type { Log } from './log.ts'
import { errorText } from './files.ts'

/** A long-running part: returns after an abort, throws to be restarted. */
export type Service = { readonly name: string; run(signal: AbortSignal): Promise<void> }

const FIRST_DELAY_MS = 500
const LONGEST_DELAY_MS = 60_000
/** A service that ran this long before it failed starts with the first delay again. */
const STEADY_MS = 60_000

/** Runs the services until the signal aborts, restarting one that throws with a growing delay. */
export const superviseServices = async (
  services: readonly Service[],
  context: { readonly clock: Clock; readonly log: Log; readonly signal: AbortSignal },
): Promise<void> => {
  await Promise.all(services.map((service) => superviseService(service, context)))
}

const superviseService = async (
  service: Service,
  { clock, log, signal }: { readonly clock: Clock; readonly log: Log; readonly signal: AbortSignal },
): Promise<void> => {
  let delayMs = FIRST_DELAY_MS
  while (!isAborted(signal)) {
    const startedMs = clock.monotonicMs()
    try {
      await service.run(signal)
      if (!isAborted(signal))
        throw new AgentError('internal', `the service ${service.name} returned by itself`)
    } catch (error) {
      if (isAborted(signal)) return
      if (clock.monotonicMs() - startedMs > STEADY_MS) delayMs = FIRST_DELAY_MS
      log.error(`the service ${service.name} failed and is restarted`, { error: errorText(error), delayMs })
      await clock.sleep(delayMs, signal).catch(() => undefined)
      delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS)
    }
  }
}

/** Behind a function, so that the compiler does not take the loop's condition for still true. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted
