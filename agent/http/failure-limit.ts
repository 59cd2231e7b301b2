import { isIPv6 } from 'node:net'
import type { Clock } from '../platform/clock.ts'

/** How often a wrong token is heard, from one source and from all of them together. */
const PER_SOURCE = 10
const FROM_ALL = 60
const REFILL_MS = 60_000
/** Sources that are remembered at once; the oldest is forgotten first, and the limit of all still holds. */
const MOST_SOURCES = 1_000

type Bucket = { left: number; at: number }

/** Says whether one more failure of a source may have its answer. Right tokens are never asked here. */
export type FailureLimit = { take(source: string): boolean }

/** Buckets that fill again evenly over a minute. */
export const createFailureLimit = (clock: Pick<Clock, 'monotonicMs'>): FailureLimit => {
  const all: Bucket = { left: FROM_ALL, at: clock.monotonicMs() }
  const sources = new Map<string, Bucket>()

  const has = (bucket: Bucket, size: number): boolean => {
    const now = clock.monotonicMs()
    bucket.left = Math.min(size, bucket.left + ((now - bucket.at) * size) / REFILL_MS)
    bucket.at = now
    return bucket.left >= 1
  }
  return {
    take: (source) => {
      const key = networkOf(source)
      const own = sources.get(key) ?? { left: PER_SOURCE, at: clock.monotonicMs() }
      sources.delete(key)
      sources.set(key, own)
      const [oldest] = sources.keys()
      if (sources.size > MOST_SOURCES && oldest !== undefined) sources.delete(oldest)
      if (!has(own, PER_SOURCE) || !has(all, FROM_ALL)) return false
      own.left -= 1
      all.left -= 1
      return true
    },
  }
}

/** One customer has a whole /64 of IPv6. */
const networkOf = (source: string): string => {
  if (!isIPv6(source) || source.startsWith('::ffff:')) return source
  const [head = '', tail] = source.split('::')
  const before = head.split(':')
  const after = tail?.split(':') ?? []
  return [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after]
    .slice(0, 4)
    .join(':')
}
