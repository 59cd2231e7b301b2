import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import type { RentedBox } from '../context/contexts.ts'
import { readContexts, writeContexts } from '../context/contexts.ts'
import type { SshTarget } from '../context/target.ts'
import { parseTarget, targetText } from '../context/target.ts'
import type { Transport } from '../transport.ts'

/** The way to a rented box as it was last known. */
type KnownWay = { readonly context: string; readonly rental: RentedBox; readonly target: SshTarget }

type WayContext = {
  readonly environment: Environment
  readonly open: (target: SshTarget) => Transport
}

/**
 * A rented box has another address after each start. Where its old one does not lead to it any more, its provider is
 * asked once and the context follows.
 */
export const followMovedBox = (known: KnownWay, { environment, open }: WayContext): Transport => {
  let way = open(known.target)
  let hasAsked = false
  return async (request) => {
    try {
      return await way(request)
    } catch (error) {
      // Nothing was sent: ssh itself did not get there, or got to somebody else.
      const isElsewhere =
        error instanceof AgentError && (error.code === 'unreachable' || error.code === 'unauthorized')
      if (!isElsewhere || hasAsked) throw error
      hasAsked = true
      const target = await lookUp(known, { environment, signal: request.signal, error })
      way = open(target)
      return way(request)
    }
  }
}

/** The box's address now. @throws the error there was, where the provider knows nothing better */
const lookUp = async (
  { context, rental, target }: KnownWay,
  { environment, signal, error }: { environment: Environment; signal: AbortSignal; error: AgentError },
): Promise<SshTarget> => {
  // Loaded only for a box that moved: every command would wait for it.
  const { openProvider, renterNamed } = await import('./open-provider.ts')
  const instance = await openProvider(renterNamed(rental.provider), environment)
    .then((provider) => provider.show(rental.id, { signal }))
    // Without its key, or while the provider is away, the first error says more.
    .catch(() => undefined)
  signal.throwIfAborted()
  if (instance === undefined) throw error
  if (instance.state !== 'running' || instance.ssh === null)
    throw new AgentError('unreachable', `${context} is ${instance.state} at ${rental.provider}`, {
      cause: error,
      hint:
        instance.state === 'gone'
          ? `Forget it: agentctl context rm ${context}.`
          : 'Look at it with agentctl boxes, or start it on the provider’s page.',
    })
  const found: SshTarget = { ...target, ...instance.ssh }
  if (targetText(found) === targetText(target)) throw error
  const stored = await readContexts(environment)
  const before = stored.contexts[context]
  if (before !== undefined && parseTarget(before.target).kind === 'ssh')
    await writeContexts(environment, {
      ...stored,
      contexts: { ...stored.contexts, [context]: { ...before, target: targetText(found) } },
    })
  return found
}
