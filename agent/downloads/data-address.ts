import { AgentError } from '../../shared/contract/errors.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import { signedUntil } from '../../shared/sources/signed-until.ts'
import type { Clock } from '../platform/clock.ts'

export type DataAddress = {
  /** The address for the next request; asked for anew shortly before a signed one expires. */
  current(signal: AbortSignal): Promise<{ readonly url: URL; readonly generation: number }>
  /** Notes that an address gave bytes. */
  worked(generation: number): void
  /**
   * The content host sends on to another address. Followed while this one is new; of one that gave bytes before it means
   * that it is no good any more, as the way to a login page does.
   * @throws AgentError the refusal, or what the new resolve found
   */
  moved(
    generation: number,
    redirect: { readonly target: () => URL; readonly refusal: AgentError },
    signal: AbortSignal,
  ): Promise<void>
  /**
   * A content host refused the address. All connections of the file share one new resolve; when the fresh address is
   * refused as well before it gave anything, there is no hope in a third.
   * @throws AgentError the refusal, or what the new resolve found
   */
  refused(generation: number, refusal: AgentError, signal: AbortSignal): Promise<void>
}

/** A signed address is renewed when this part of its life is over: it is checked when a request arrives. */
const RENEW_AFTER = 0.8
const MOST_HOPS = 10

export const createDataAddress = (
  first: ResolvedSource,
  context: { readonly renew: (signal: AbortSignal) => Promise<ResolvedSource>; readonly clock: Clock },
): DataAddress => {
  const { clock } = context
  let source = first
  let generation = 0
  let gaveBytes = true
  // Since it was resolved: the first address may be refused for its age, but not for having served.
  let hops = 0
  let hasWorked = false
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
        gaveBytes = hasWorked = false
        hops = 0
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

  const refused: DataAddress['refused'] = async (at, refusal, signal) => {
    // Another connection has fetched a fresh address in the meantime.
    if (at < generation) return
    if (!gaveBytes) throw refusal
    await renew(signal)
  }

  return {
    current: async (signal) => {
      if (isNearEnd()) await renew(signal)
      return { url: new URL(source.dataUrl), generation }
    },
    worked: (at) => {
      if (at === generation) gaveBytes = hasWorked = true
    },
    moved: async (at, { target, refusal }, signal) => {
      if (at < generation) return
      if (hasWorked) return refused(at, refusal, signal)
      if (hops >= MOST_HOPS) throw refusal
      const url = target()
      hops += 1
      generation += 1
      source = { ...source, dataUrl: url.href, expiresAt: signedUntil(url) ?? source.expiresAt }
    },
    refused,
  }
}

const isSameFile = (a: ResolvedSource, b: ResolvedSource): boolean =>
  a.sizeBytes === b.sizeBytes &&
  (a.sha256 !== null || b.sha256 !== null
    ? a.sha256 === b.sha256
    : a.gitSha1 === b.gitSha1 && (a.gitSha1 !== null || a.validator === b.validator))
