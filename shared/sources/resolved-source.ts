import type { Endpoints, HubKind } from './endpoints.ts'
import type { Fetcher } from './fetcher.ts'
import type { SourceReference } from './parse-source.ts'
import type { PublishedFacts } from './published-facts.ts'

/** What resolving needs, the same for every source of one program. */
export type ResolveDeps = {
  readonly fetch: Fetcher
  readonly endpoints: Endpoints
  readonly allowHosts: readonly string[]
  /** The hub's token; it is sent to that hub's exact origin and nowhere else. */
  readonly tokenFor: (kind: HubKind) => string | undefined
  readonly clock: { now(): Date; sleep(ms: number, signal?: AbortSignal): Promise<void> }
  /** How often a source that fails for a moment is asked; 4 by default. */
  readonly attempts?: number
  /** Hands what a plan found to the transfer; without it each asks by itself. */
  readonly recent?: RecentSources
}
export type ResolveContext = ResolveDeps & { readonly signal: AbortSignal }

/** What a source is, and where its bytes are for now. */
export type ResolvedSource = PublishedFacts & {
  /** The canonical spelling, without secrets. */
  readonly reference: string
  readonly kind: SourceReference['kind']
  /** Where the bytes are. May be signed: never shown, never stored. */
  readonly dataUrl: string
  /** When `dataUrl` stops working, where it says so. */
  readonly expiresAt: Date | null
  /** False when it ignored a Range; null when it was not asked yet. */
  readonly acceptsRanges: boolean | null
  readonly fileName: string | null
  readonly contentType: string | null
  /** True when the hub refused the token and gave the file without it: the data must be asked for without it too. */
  readonly anonymous: boolean
}

/**
 * What a plan has just found out, so that the transfer that follows it does not ask again: hubs count every question, and
 * Civitai counts it as a download. Each answer is taken once; nothing of it is ever stored or shown.
 */
export type RecentSources = {
  readonly keep: (reference: string, source: ResolvedSource) => void
  /** The answer, while it is fresh and its address has more than half of its life before it. */
  readonly take: (reference: string) => ResolvedSource | undefined
}
