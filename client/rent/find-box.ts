import { AgentError } from '../../shared/contract/errors.ts'
import { RENTERS } from '../../shared/providers/places.ts'
import type { Provider } from '../../shared/providers/provider.ts'
import type { Call } from '../command.ts'
import { readContexts } from '../context/contexts.ts'
import { openProvider, openProviders, renterNamed } from './open-provider.ts'
import type { Rental } from './rentals.ts'
import { contextOf, readRentals } from './rentals.ts'

/** A rented box, and everything this machine knows of it. */
export type FoundBox = {
  readonly provider: Provider
  readonly id: string
  readonly context: string | null
  readonly rental: Rental | undefined
}

/**
 * The box that is meant: by its id, label or context where one is named, else the one that commands are about.
 * @throws AgentError not_found, usage, provider_key, provider_failed
 */
export const findBox = async (named: string | undefined, call: Call): Promise<FoundBox> => {
  const { environment } = call
  const [rentals, { current, contexts }] = await Promise.all([
    readRentals(environment),
    readContexts(environment),
  ])
  const context = named ?? call.context ?? current ?? undefined
  const stored = context === undefined ? undefined : contexts[context]
  if (stored?.rental !== undefined) {
    const { id, provider } = stored.rental
    return {
      provider: await openProvider(renterNamed(provider), environment),
      id,
      context: context ?? null,
      rental: rentals.find((rental) => rental.id === id && rental.provider === provider),
    }
  }
  if (named === undefined)
    throw new AgentError(
      'not_found',
      context === undefined ? 'no box was named' : `${context} is not a box that agentctl rented`,
      { hint: 'Name one of agentctl boxes.' },
    )
  const rental = rentals.find((one) => one.id === named || one.label === named)
  const providers =
    rental === undefined
      ? await openProviders(environment)
      : [await openProvider(rental.provider, environment)]
  for (const provider of providers) {
    const all = await provider.list(call)
    const found = all.find(({ id, label }) => id === named || label === named || label === rental?.label)
    if (found === undefined) continue
    return { provider, id: found.id, context: await contextOf(found, environment), rental }
  }
  throw new AgentError('not_found', `there is no box ${named}`, {
    hint:
      providers.length === 0 ? `Set a provider’s key: ${RENTERS.join(', ')}.` : 'Name one of agentctl boxes.',
  })
}
