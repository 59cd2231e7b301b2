/** Statuses that say “not now”: asking again later may work. Anything else is an answer. */
export const isRetryableStatus = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505)

/** Longest wait that a server's word can impose; more than this is a failure of the source, not a pause. */
export const LONGEST_WAIT_MS = 120_000

/**
 * How long the server asks to wait, in milliseconds: `Retry-After` in seconds or as a date, or Hugging Face's
 * `RateLimit: "resolvers";r=0;t=55` (only r=0 means that the limit is what refused). Undefined when it says nothing.
 */
export const askedDelayMs = (headers: Readonly<Record<string, string>>, now: Date): number | undefined => {
  const limit = /(?:^|[;,\s])r=0\b.*?\bt=(\d+)/.exec(headers['ratelimit'] ?? '')
  // One second more: the window is counted in whole seconds.
  if (limit) return (Number(limit[1]) + 1) * 1000
  const after = headers['retry-after']?.trim()
  if (after === undefined || after === '') return undefined
  if (/^\d+$/.test(after)) return Number(after) * 1000
  const date = Date.parse(after)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now.getTime())
}

/** Grows from a quarter of a second to ten; half of it is chance, so that connections do not come back together. */
export const backoffMs = (failures: number): number =>
  Math.min(10_000, 250 * 2 ** Math.max(0, failures - 1)) * (0.5 + Math.random() / 2)
