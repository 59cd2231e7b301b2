import type { AgentError } from '../../shared/contract/errors.ts'
import { stopConfirmed } from '../../shared/providers/confirm.ts'
import type { Provider } from '../../shared/providers/provider.ts'
import type { Api } from '../api.ts'
import type { Call } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { askUser, canAsk } from './ask-user.ts'
import { systemClock } from './open-provider.ts'
import { sleep } from '../wait.ts'
import type { NewBox } from './rent-box.ts'
import type { Rental } from './rentals.ts'
import { contextOf, isBeingMade, readRentals, writeRental } from './rentals.ts'

type Starting = { readonly provider: Provider; readonly call: Call; readonly keepsFailed: boolean }

/** How long one stop is asked for and read back. */
const WITHIN_MS = 600_000

/**
 * The boxes that this machine rented for a manifest of this name, as they are now, newest first. The disk of a stopped
 * one holds what was downloaded, and goes on costing; of several the newest is told.
 * @throws AgentError provider_key, provider_failed
 */
export const findEarlier = async (
  manifest: string,
  { provider, call }: Pick<Starting, 'provider' | 'call'>,
): Promise<{ readonly stopped: NewBox | undefined; readonly running: readonly NewBox[] }> => {
  const mine = (await readRentals(call.environment))
    .filter((one) => one.provider === provider.name && one.manifest === manifest && !isBeingMade(one))
    .toSorted((a, b) => b.createdAt.localeCompare(a.createdAt))
    .flatMap((rental) => (rental.id === null ? [] : [{ rental, id: rental.id }]))
  const states = await Promise.all(mine.map(async ({ id }) => (await provider.show(id, call)).state))
  return {
    stopped: mine.find((_, index) => states[index] === 'stopped'),
    running: mine.filter((_, index) => states[index] === 'running'),
  }
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

/** A box that has just booted brings itself to its last manifest, which takes this long where everything is there. */
const BOOT_RUN_MS = 300_000

/**
 * Starts what `down` stopped, which stays stopped also for a run. One that the box does not have any more has nothing to
 * start; one whose environment the agent does not know yet is known when its own run after the boot has planned it.
 */
export const startProcesses = async (
  names: readonly string[],
  { api, call }: { readonly api: Api; readonly call: Call },
): Promise<void> => {
  for (const name of names) {
    call.output.note(`starting ${name}, which agentctl down had stopped`)
    await startProcess(name, { api, call })
  }
}

const startProcess = async (name: string, { api, call }: { api: Api; call: Call }): Promise<void> => {
  const until = performance.now() + BOOT_RUN_MS
  for (;;) {
    try {
      await api.actOn(name, 'start')
      return
    } catch (error) {
      const { code } = asAgentError(error)
      if (code === 'not_found') return
      if (code !== 'process_unplanned' || performance.now() > until) throw error
      await sleep(1_000, call.longSignal)
    }
  }
}
