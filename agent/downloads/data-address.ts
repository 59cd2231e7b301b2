import { AgentError } from '../../shared/contract/errors.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import type { Clock } from '../platform/clock.ts'

export type DataAddress = {
  /** The address for the next request; asked for anew shortly before a signed one expires. */
  current(signal: AbortSignal): Promise<{ readonly url: URL; readonly generation: number }>
  /** Notes that an address gave bytes. */
  worked(generation: number): void
  /**
   * A content host refused the address. All connections of the file share one new resolve; when the fresh address is
   * refused as well before it gave anything, there is no hope in a third.
   * @throws AgentError the refusal, or what the new resolve found
   */
  refused(generation: number, refusal: AgentError, signal: AbortSignal): Promise<void>
}

/** A signed address is renewed when this part of its life is over: it is checked when a request arrives. */
const RENEW_AFTER = 0.8

export const createDataAddress = (
  first: ResolvedSource,
  context: { readonly renew: (signal: AbortSignal) => Promise<ResolvedSource>; readonly clock: Clock },
): DataAddress => {
  const { clock } = context
  let source = first
  let generation = 0
  let gaveBytes = true
  let obtainedAt = clock.now().getTime()
  let renewing: Promise<void> | undefined

  const renew = (signal: AbortSignal): Promise<void> => {
    renewing ??= context
      .renew(signal)
      .then((fresh) => {
        if (!isSameFile(first, fresh))
          throw new AgentError('source_changed', `${first.reference} changed while it was fetched`)
        source = fresh
        generation += 1
        gaveBytes = false
        obtainedAt = clock.now().getTime()
      })
      .finally(() => (renewing = undefined))
    return renewing
  }

  const isNearEnd = (): boolean => {
    if (source.expiresAt === null) return false
    const life = source.expiresAt.getTime() - obtainedAt
    return life > 0 && clock.now().getTime() > obtainedAt + RENEW_AFTER * life
  }

  return {
    current: async (signal) => {
      if (isNearEnd()) await renew(signal)
      return { url: new URL(source.dataUrl), generation }
    },
    worked: (at) => {
      if (at === generation) gaveBytes = true
    },
    refused: async (at, refusal, signal) => {
      // Another connection has fetched a fresh address in the meantime.
      if (at < generation) return
      if (!gaveBytes) throw refusal
      await renew(signal)
    },
  }
}

const isSameFile = (a: ResolvedSource, b: ResolvedSource): boolean =>
  a.sizeBytes === b.sizeBytes &&
  (a.sha256 !== null || b.sha256 !== null
    ? a.sha256 === b.sha256
    : a.gitSha1 === b.gitSha1 && (a.gitSha1 !== null || a.validator === b.validator))
