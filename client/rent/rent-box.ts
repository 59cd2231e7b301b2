import { AgentError } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { RATE_VARIABLE } from '../../shared/providers/places.ts'
import type { Provider } from '../../shared/providers/provider.ts'
import type { Call } from '../command.ts'
import { forgetContext } from '../context/forget-context.ts'
import { asAgentError } from '../exit.ts'
import { findSecret } from '../find-secret.ts'
import { askUser, canAsk } from './ask-user.ts'
import type { RankedOffer } from './choose-offer.ts'
import { endRental } from './end-rental.ts'
import type { Order } from './read-order.ts'
import type { Rental } from './rentals.ts'
import { contextOf, newLabel, writeRental } from './rentals.ts'

/** A box that this machine made and is at work on. */
export type NewBox = { readonly rental: Rental; readonly id: string }

type Renting = {
  readonly manifest: Manifest
  readonly order: Order
  readonly provider: Provider
  readonly call: Call
}

/** Offers are taken by others all the time; more than this many in a row is something else. */
const TRIES = 3

/**
 * Takes the first of the offers that is still there and does `work` with the box. Whatever fails, and whatever the
 * provider answered, nothing is left that bills: what was made is destroyed and read back, before the error goes on.
 * Only the user's word keeps it. The record on this machine is written before the provider is asked.
 */
export const rentBox = async <T>(
  offers: readonly RankedOffer[],
  renting: Renting,
  work: (box: NewBox) => Promise<T>,
): Promise<T> => {
  const { call } = renting
  for (const [index, { offer }] of offers.slice(0, TRIES).entries()) {
    const box = { current: newRental(offer.usdPerHour, renting), isUnclear: false }
    const keep = async (change: Partial<Rental>): Promise<Rental> => {
      box.current = { ...box.current, ...change }
      await writeRental(box.current, call.environment)
      return box.current
    }
    await keep({})
    try {
      const id = await createBox(offer, { ...renting, box })
      if (id === undefined) {
        call.output.note(`offer ${offer.id} is gone`)
        await giveBack(box, renting)
        if (index + 1 < Math.min(TRIES, offers.length)) continue
        throw new AgentError('no_offer', `the offers that fit were taken by others; ${index + 1} were tried`)
      }
      call.output.note(`rented ${offer.provider} instance ${id} for $${offer.usdPerHour.toFixed(2)} an hour`)
      const done = await work({ rental: await keep({ id }), id })
      await keep({
        pid: null,
        context: await contextOf({ provider: renting.provider.name, id }, call.environment),
      })
      return done
    } catch (error) {
      if (asAgentError(error).code === 'no_offer') throw error
      throw await endOrKeep(error, { ...renting, box, keep })
    }
  }
  throw new AgentError('no_offer', 'there is no offer')
}

type Making = { current: Rental; isUnclear: boolean }

/** The limits that the guard of this machine holds a box to. */
export const limitsOf = ({
  budget,
}: Pick<Manifest, 'budget'>): Pick<Rental, 'maxCostUsd' | 'maxHours' | 'onLimit'> => {
  const limit = (value: number | undefined): number | null =>
    value === undefined || value <= 0 ? null : value
  return {
    maxCostUsd: limit(budget?.max_cost_usd),
    maxHours: limit(budget?.max_hours),
    onLimit: budget?.on_limit ?? 'stop',
  }
}

const newRental = (usdPerHour: number, { manifest, order }: Renting): Rental => ({
  label: newLabel(manifest.name),
  provider: order.provider,
  id: null,
  context: null,
  manifest: manifest.name,
  createdAt: new Date().toISOString(),
  usdPerHour,
  pid: process.pid,
  ...limitsOf(manifest),
  syncedAt: null,
  stoppedProcesses: [],
})

/** An image that has the agent starts it by this at each start; one that has none does nothing. */
const ON_START =
  '[ -x /opt/gpu-agent/current/systemd/onstart.sh ] && /opt/gpu-agent/current/systemd/onstart.sh # gpu-agent'

/** The id of what was made; undefined when the offer is gone and nothing was made. */
const createBox = async (
  offer: RankedOffer['offer'],
  { order, provider, call, box }: Renting & { readonly box: Making },
): Promise<string | undefined> => {
  const env = Object.fromEntries(
    order.secretNames.flatMap((name) => {
      const value = findSecret(name, call.environment)
      return value === undefined ? [] : [[name, value]]
    }),
  )
  call.output.note(
    `renting offer ${offer.id} as ${box.current.label}; it gets ${Object.keys(env).join(', ') || 'no secrets'}`,
  )
  // From here on the provider may have made something, whatever comes back.
  box.isUnclear = true
  const created = await provider.create(
    {
      offer,
      label: box.current.label,
      image: order.image,
      diskBytes: order.wanted.diskBytes,
      env: { ...env, [RATE_VARIABLE]: String(offer.usdPerHour) },
      onStart: ON_START,
      bidUsdPerHour: order.interruptible ? offer.usdPerHour : null,
    },
    { signal: call.signal },
  )
  if (created.state === 'created') {
    box.current = { ...box.current, id: created.id }
    box.isUnclear = false
    return created.id
  }
  call.output.note(created.error.message)
  box.isUnclear = false
  box.current = { ...box.current, id: created.left }
  if (created.left !== null || created.error.code !== 'provider_failed') throw created.error
  return undefined
}

/** Destroys what the record names and what carries its label. */
const giveBack = (box: Making, { provider, call }: Renting, signal = call.signal): Promise<void> =>
  endRental(provider, {
    leftover: {
      label: box.current.label,
      ids: box.current.id === null ? [] : [box.current.id],
      isUnclear: box.isUnclear,
    },
    output: call.output,
    environment: call.environment,
    signal,
  })

/** The error to tell, after the box is destroyed or the user has said that it stays. */
const endOrKeep = async (
  error: unknown,
  context: Renting & { readonly box: Making; keep(change: Partial<Rental>): Promise<Rental> },
): Promise<AgentError> => {
  const { call, box, order, provider } = context
  const known = asAgentError(error)
  // The first Ctrl-C has ended the command's own signal; a second one ends the program at once.
  const { signal } = new AbortController()
  const { id, label } = box.current
  const isInterrupted = call.signal.aborted
  if (id !== null && (isInterrupted ? await wantsToKeep(id, { ...context, signal }) : order.keepsFailed)) {
    await context.keep({
      pid: null,
      context: await contextOf({ provider: provider.name, id }, call.environment),
    })
    call.output.note(`${provider.name} instance ${id} is kept and goes on costing money`)
    return new AgentError(known.code, known.message, {
      cause: known,
      hint: `Give it back with agentctl down ${id} --destroy --lose-data.`,
      ...(known.problems === undefined ? {} : { problems: known.problems }),
    })
  }
  call.output.note(`${isInterrupted ? 'interrupted' : known.message}; giving ${label} back`)
  try {
    await giveBack(box, context, signal)
    const made = id === null ? null : await contextOf({ provider: provider.name, id }, call.environment)
    if (made !== null) await forgetContext(made, { environment: call.environment, signal })
  } catch (failure) {
    return asAgentError(failure)
  }
  return known
}

const wantsToKeep = async (
  id: string,
  { call, provider, box, signal }: Renting & { readonly box: Making; readonly signal: AbortSignal },
): Promise<boolean> => {
  if (!canAsk()) return false
  const price = box.current.usdPerHour === null ? '' : ` ($${box.current.usdPerHour.toFixed(2)} an hour)`
  const question = `${provider.name} instance ${id}${price} is rented. Destroy it, or keep it? [D/k]`
  return (await askUser(question, { output: call.output, signal })).startsWith('k')
}
