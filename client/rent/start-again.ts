import type { AgentError } from '../../shared/contract/errors.ts'
import { stopConfirmed } from '../../shared/providers/confirm.ts'
import type { Provider } from '../../shared/providers/provider.ts'
import type { Call } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { askUser, canAsk } from './ask-user.ts'
import { systemClock } from './open-provider.ts'
import type { NewBox } from './rent-box.ts'
import type { Rental } from './rentals.ts'
import { contextOf, isBeingMade, readRentals, writeRental } from './rentals.ts'

type Starting = { readonly provider: Provider; readonly call: Call; readonly keepsFailed: boolean }

/** How long one stop is asked for and read back. */
const WITHIN_MS = 600_000

/**
 * The box that this machine rented for a manifest of this name and that is stopped now: its disk holds what was
 * downloaded, and goes on costing. The newest, where there are several.
 * @throws AgentError provider_key, provider_failed
 */
export const findStopped = async (
  manifest: string,
  { provider, call }: Pick<Starting, 'provider' | 'call'>,
): Promise<NewBox | undefined> => {
  const mine = (await readRentals(call.environment))
    .filter((one) => one.provider === provider.name && one.manifest === manifest && !isBeingMade(one))
    .toSorted((a, b) => b.createdAt.localeCompare(a.createdAt))
  for (const rental of mine) {
    const { id } = rental
    if (id !== null && (await provider.show(id, call)).state === 'stopped') return { rental, id }
  }
  return undefined
}

/**
 * Starts a stopped box and does `work` with it. Whatever fails, it does not go on billing for its GPU: it is stopped
 * again, read back. It is never destroyed here, because its disk may hold the only copy of something.
 * @param rental with the limits of the manifest that it is started for
 */
export const startAgain = async <T>(
  { rental, id }: NewBox,
  starting: Starting,
  work: (box: NewBox) => Promise<T>,
): Promise<T> => {
  const { provider, call } = starting
  // From here on it may make something that no sync has seen.
  const working: Rental = { ...rental, pid: process.pid, syncedAt: null }
  await writeRental(working, call.environment)
  const letGo = async (change: Partial<Rental> = {}): Promise<void> => {
    const context = await contextOf({ provider: rental.provider, id }, call.environment)
    await writeRental({ ...working, pid: null, context, ...change }, call.environment)
  }
  try {
    call.output.note(`starting ${provider.name} instance ${id}`)
    await provider.start(id, call)
    const done = await work({ rental: working, id })
    await letGo({ stoppedProcesses: [] })
    return done
  } catch (error) {
    const told = await stopAgain(id, { ...starting, error })
    await letGo()
    throw told
  }
}

/** The error to tell, after the box is stopped again or the user has said that it runs on. */
const stopAgain = async (
  id: string,
  { provider, call, keepsFailed, error }: Starting & { readonly error: unknown },
): Promise<AgentError> => {
  const known = asAgentError(error)
  // The first Ctrl-C has ended the command's own signal; a second one ends the program at once.
  const { signal } = new AbortController()
  const name = `${provider.name} instance ${id}`
  if (call.signal.aborted ? await wantsToKeep(name, { call, signal }) : keepsFailed) {
    call.output.note(`${name} runs on and goes on costing money: agentctl down ${id}`)
    return known
  }
  call.output.note(`${call.signal.aborted ? 'interrupted' : known.message}; stopping ${name} again`)
  try {
    const after = await stopConfirmed(provider, { id }, { signal, clock: systemClock, withinMs: WITHIN_MS })
    call.output.note(`${name} is ${after.state}: read back`)
    return known
  } catch (failure) {
    return asAgentError(failure)
  }
}

const wantsToKeep = async (
  name: string,
  { call, signal }: { readonly call: Call; readonly signal: AbortSignal },
): Promise<boolean> => {
  if (!canAsk()) return false
  const question = `${name} was started. Stop it again, or keep it running? [S/k]`
  return (await askUser(question, { output: call.output, signal })).startsWith('k')
}
