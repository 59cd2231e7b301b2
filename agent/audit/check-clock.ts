import { watchClock } from '../../shared/preflight/watch-clock.ts'
import type { Fetcher } from '../../shared/sources/fetcher.ts'

/** How far this machine's clock is ahead of a hub's, in milliseconds; null where the hub does not answer. */
export const readClockSkew = async (
  hub: string,
  context: { readonly fetch: Fetcher; readonly now: () => Date; readonly signal: AbortSignal },
): Promise<number | null> => {
  const clock = watchClock(context.fetch, context.now)
  try {
    const reply = await clock.fetch({ url: new URL('/robots.txt', hub).href, headers: {} }, context)
    reply.discard()
  } catch {
    context.signal.throwIfAborted()
    // The hub cannot be reached: the caller says that the clock could not be compared.
  }
  return clock.aheadMs()
}
