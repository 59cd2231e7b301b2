import type { BudgetRow } from '../../shared/contract/records.ts'
import { stopConfirmed } from '../../shared/providers/confirm.ts'
import type { Instance, Provider } from '../../shared/providers/provider.ts'
import type { Call } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { hearAgent } from './hear-agent.ts'
import { judgeBox } from './judge-box.ts'
import { openProvider, systemClock } from './open-provider.ts'
import type { Rental } from './rentals.ts'
import { contextOf, isBeingMade, readRentals, writeRental } from './rentals.ts'

/** What the guard says, as lines and as events of its stream. */
export type GuardReport = {
  readonly at: string
  readonly box: string
  readonly level: 'note' | 'alarm'
  readonly message: string
}

type GuardContext = {
  readonly call: Pick<Call, 'environment' | 'signal'>
  readonly leaseMs: number
  readonly everyMs: number
  report(report: Omit<GuardReport, 'at'>): void
}

/** How long one stop is read back before the guard looks at the other boxes again. */
const STOP_WITHIN_MS = 300_000

/**
 * The lease outside the box, for ever: looks at every box that this machine rented, and stops what is silent for longer
 * than the lease or over its budget. A look that did not reach the provider says nothing: then it is this machine whose
 * network is away, and no silence is counted.
 */
export const guardBoxes = async (context: GuardContext): Promise<never> => {
  const silentMs = new Map<string, number>()
  let beforeMs = performance.now()
  for (;;) {
    // A laptop that slept counts one round, not the night.
    const passedMs = Math.min(performance.now() - beforeMs, 2 * context.everyMs)
    beforeMs = performance.now()
    const rentals = await readRentals(context.call.environment)
    await Promise.all(
      rentals
        .filter((rental) => !isBeingMade(rental))
        .map((rental) => guardOne(rental, { ...context, silentMs, passedMs })),
    )
    await systemClock.sleep(context.everyMs, context.call.signal)
  }
}

type Round = GuardContext & { readonly silentMs: Map<string, number>; readonly passedMs: number }

const guardOne = async (rental: Rental, round: Round): Promise<void> => {
  const { call, silentMs } = round
  const say = (level: GuardReport['level'], message: string): void =>
    round.report({ box: rental.label, level, message })
  try {
    const provider = await openProvider(rental.provider, call.environment)
    const instance = await findInstance(rental, { provider, call })
    if (instance === undefined || instance.state === 'gone' || instance.state === 'stopped') {
      silentMs.delete(rental.label)
      return
    }
    const budget = await hear(rental, { instance, round })
    const reason = judgeBox(
      {
        instance,
        rental,
        budget,
        silentMs: silentMs.get(rental.label) ?? 0,
        nowMs: Date.now(),
      },
      round,
    )
    if (reason === undefined) return
    say('alarm', `stopping ${provider.name} ${instance.id}: ${reason}`)
    await writeRental({ ...rental, id: instance.id, syncedAt: null }, call.environment)
    await stop(provider, { instance, call, say })
    silentMs.delete(rental.label)
  } catch (error) {
    call.signal.throwIfAborted()
    const { code, message } = asAgentError(error)
    // One box that cannot be looked at must not keep the guard from the others; the next round looks again.
    if (code === 'stop_unconfirmed')
      say('alarm', `NOT STOPPED, it goes on costing money: ${message}; trying again`)
    else say('alarm', `cannot be guarded now: ${message}`)
  }
}

const findInstance = async (
  rental: Rental,
  { provider, call }: { provider: Provider; call: GuardContext['call'] },
): Promise<Instance | undefined> => {
  if (rental.id !== null) return provider.show(rental.id, call)
  return (await provider.list(call)).find(({ label }) => label === rental.label)
}

/** Asks the agent and counts its silence; called after the provider answered, so the network is there. */
const hear = async (
  rental: Rental,
  { instance, round }: { instance: Instance; round: Round },
): Promise<BudgetRow | null | undefined> => {
  const context = await contextOf(instance, round.call.environment)
  const heard = context === null ? undefined : await hearAgent(context, round.call)
  if (heard?.state === 'answers') {
    if (round.silentMs.has(rental.label))
      round.report({ box: rental.label, level: 'note', message: 'its agent answers again' })
    round.silentMs.delete(rental.label)
    return heard.status.budget
  }
  const before = round.silentMs.get(rental.label)
  round.silentMs.set(rental.label, before === undefined ? 0 : before + round.passedMs)
  if (before === undefined) {
    const why = heard?.state === 'silent' ? `its agent is silent: ${heard.why}` : 'it has no agent here'
    round.report({ box: rental.label, level: 'note', message: why })
  }
  return undefined
}

const stop = async (
  provider: Provider,
  {
    instance,
    call,
    say,
  }: {
    instance: Instance
    call: GuardContext['call']
    readonly say: (level: GuardReport['level'], message: string) => void
  },
): Promise<void> => {
  let told = ''
  const report = ({ why }: { why: string }): void => {
    if (why !== told) say('alarm', `not stopped yet: ${why}`)
    told = why
  }
  const after = await stopConfirmed(provider, instance, {
    signal: call.signal,
    clock: systemClock,
    withinMs: STOP_WITHIN_MS,
    report,
  })
  say('alarm', `${provider.name} ${instance.id} is ${after.state}: read back`)
}
