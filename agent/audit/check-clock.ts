import type { Fetcher } from '../../shared/sources/fetcher.ts'

/** A certificate or a signed address is refused by a clock that is further off. */
export const CLOCK_TOLERANCE_MS = 60_000

/**
 * How far this machine's clock is ahead of a hub's, in milliseconds, by the Date header of its answer (RFC 9110 §6.6.1:
 * whole seconds). Null where no hub answers.
 */
export const readClockSkew = async (
  hub: string,
  context: { readonly fetch: Fetcher; readonly now: () => Date; readonly signal: AbortSignal },
): Promise<number | null> => {
  try {
    const reply = await context.fetch({ url: new URL('/robots.txt', hub).href, headers: {} }, context)
    const date = Date.parse(reply.headers['date'] ?? '')
    reply.discard()
    return Number.isNaN(date) ? null : context.now().getTime() - date
  } catch {
    context.signal.throwIfAborted()
    // The hub cannot be reached: the caller says that the clock could not be compared.
    return null
  }
}
