import type { Fetcher } from '../sources/fetcher.ts'

/** Signed addresses and certificates forgive some minutes; a store refuses what is signed a quarter of an hour off. */
export const CLOCK_TOLERANCE_MS = 5 * 60_000

/**
 * Compares this machine's clock with the `Date` of every answer. The smallest difference counts: an answer that was kept
 * by a cache is older than it looks.
 */
export const watchClock = (
  fetch: Fetcher,
  now: () => Date,
): { readonly fetch: Fetcher; readonly aheadMs: () => number | null } => {
  let aheadMs: number | null = null
  return {
    fetch: async (request, context) => {
      const reply = await fetch(request, context)
      const date = Date.parse(reply.headers['date'] ?? '')
      if (!Number.isNaN(date)) {
        const difference = now().getTime() - date
        if (aheadMs === null || Math.abs(difference) < Math.abs(aheadMs)) aheadMs = difference
      }
      return reply
    },
    aheadMs: () => aheadMs,
  }
}
