import type { Problem } from '../../shared/contract/errors.ts'
import { problemFrom } from '../../shared/contract/errors.ts'
import type { Instance, Provider } from '../../shared/providers/provider.ts'
import type { Call } from '../command.ts'
import { hearAgent } from './hear-agent.ts'
import { openProviders } from './open-provider.ts'
import type { Rental } from './rentals.ts'
import { contextOf, forgetRental, isBeingMade, isOurLabel, readRentals } from './rentals.ts'

/** One box that is rented; `agent` is the id of the agent that answers there. */
export type BoxRow = {
  readonly id: string
  readonly provider: string
  readonly label: string | null
  readonly gpu: string | null
  readonly usdPerHour: number | null
  readonly since: string | null
  readonly state: Instance['state']
  readonly agent: string | null
  readonly context: string | null
  /** Why somebody should look at it; null when all is well. */
  readonly warning: string | null
}

export type Boxes = { readonly boxes: readonly BoxRow[]; readonly problems: readonly Problem[] }

/** Everything that is rented with the keys of this machine. A provider that does not answer is a problem of the list. */
export const listBoxes = async (call: Pick<Call, 'environment' | 'signal'>): Promise<Boxes> => {
  const rentals = await readRentals(call.environment)
  const providers = await openProviders(call.environment)
  const lists = await Promise.all(
    providers.map(async (provider): Promise<Boxes> => {
      try {
        return await listAt(provider, { rentals, call })
      } catch (error) {
        call.signal.throwIfAborted()
        return { boxes: [], problems: [problemFrom(error, provider.name)] }
      }
    }),
  )
  const asked = new Set<string>(providers.map(({ name }) => name))
  const unasked = rentals
    .filter(({ provider }) => !asked.has(provider))
    .map(({ label, provider }): Problem => ({
      code: 'provider_key',
      severity: 'error',
      subject: label,
      message: `it was rented at ${provider}, and this machine has no key for ${provider}`,
      hint: 'Set VAST_API_KEY or RUNPOD_API_KEY.',
    }))
  return {
    boxes: lists.flatMap(({ boxes }) => boxes),
    problems: [...lists.flatMap(({ problems }) => problems), ...unasked],
  }
}

type ListContext = {
  readonly rentals: readonly Rental[]
  readonly call: Pick<Call, 'environment' | 'signal'>
}

const listAt = async (provider: Provider, { rentals, call }: ListContext): Promise<Boxes> => {
  const instances = (await provider.list(call)).filter(({ state }) => state !== 'gone')
  const mine = rentals.filter((rental) => rental.provider === provider.name)
  const boxes = await Promise.all(
    instances.map((instance) =>
      describe(instance, { rental: mine.find((rental) => isOf(rental, instance)), call }),
    ),
  )
  const lost = mine.filter((rental) => !instances.some((instance) => isOf(rental, instance)))
  const problems = await Promise.all(lost.map((rental) => lookForLost(rental, { provider, call })))
  return { boxes, problems: problems.flat() }
}

const isOf = (rental: Rental, { id, label }: Instance): boolean =>
  rental.id === id || (rental.id === null && rental.label === label)

const describe = async (
  instance: Instance,
  { rental, call }: { rental: Rental | undefined; call: ListContext['call'] },
): Promise<BoxRow> => {
  const { id, provider, label, gpu, gpuCount, usdPerHour, since, state } = instance
  const context = await contextOf(instance, call.environment)
  const heard = context !== null && state === 'running' ? await hearAgent(context, call) : undefined
  const making = rental !== undefined && isBeingMade(rental)
  return {
    id,
    provider,
    label,
    gpu: gpu === null ? null : gpuCount !== null && gpuCount > 1 ? `${gpuCount} × ${gpu}` : gpu,
    usdPerHour,
    since,
    state,
    agent: heard?.state === 'answers' ? heard.status.agent.id : null,
    context,
    warning: making
      ? null
      : (warningOf({ instance, hasRecord: rental !== undefined, hasContext: context !== null }) ??
        (heard?.state === 'silent' ? `its agent does not answer: ${heard.why}` : null)),
  }
}

const warningOf = (box: {
  readonly instance: Instance
  readonly hasRecord: boolean
  readonly hasContext: boolean
}): string | null => {
  const { state, label, message } = box.instance
  if (state === 'failed') return `it failed and may go on costing${message === null ? '' : `: ${message}`}`
  if (box.hasContext || !isOurLabel(label)) return null
  return box.hasRecord
    ? 'a stray: the agentctl up that made it ended without it'
    : 'no context here: another machine rented it, or it is a stray'
}

/** How long a provider may take until what it made is in its list. */
const SETTLED_MS = 600_000

/** A record whose box is not listed: gone, or not there yet. */
const lookForLost = async (
  rental: Rental,
  { provider, call }: { provider: Provider; call: ListContext['call'] },
): Promise<readonly Problem[]> => {
  if (isBeingMade(rental)) return []
  const isOld = Date.now() - Date.parse(rental.createdAt) > SETTLED_MS
  const isGone = rental.id === null ? isOld : (await provider.show(rental.id, call)).state === 'gone'
  if (isGone) {
    await forgetRental(rental.label, call.environment)
    return []
  }
  return [
    {
      code: 'provider_failed',
      severity: 'warning',
      subject: rental.label,
      message: `agentctl was making it at ${provider.name} when it ended, and ${provider.name} does not list it yet`,
      hint: 'Run agentctl boxes again in some minutes.',
    },
  ]
}
