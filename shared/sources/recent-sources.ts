import type { RecentSources, ResolvedSource } from './resolved-source.ts'

/** No answer is used that is older, however long its address lives. */
const FRESH_MS = 600_000

export const createRecentSources = (now: () => Date): RecentSources => {
  const kept = new Map<string, { readonly source: ResolvedSource; readonly untilMs: number }>()
  return {
    keep: (reference, source) => {
      const nowMs = now().getTime()
      for (const [key, { untilMs }] of kept) if (untilMs < nowMs) kept.delete(key)
      const lifeMs = source.expiresAt === null ? Infinity : source.expiresAt.getTime() - nowMs
      kept.set(reference, { source, untilMs: nowMs + Math.min(FRESH_MS, lifeMs / 2) })
    },
    take: (reference) => {
      const found = kept.get(reference)
      kept.delete(reference)
      return found && found.untilMs >= now().getTime() ? found.source : undefined
    },
  }
}
