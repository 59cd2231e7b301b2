import { basename } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { createCommandControl } from '../../shared/providers/command.ts'
import type { RunStatus } from '../../shared/providers/command.ts'
import { findOwnInstance, RATE_VARIABLE } from '../../shared/providers/places.ts'
import type { OwnInstance } from '../../shared/providers/places.ts'
import type { InstanceControl, ProviderClock } from '../../shared/providers/provider.ts'
import type { Send } from '../../shared/providers/send-request.ts'
import { findProgram, runCommand } from '../platform/commands.ts'
import type { PlannedBudget } from './planned-budget.ts'

/** This box as it can be stopped: at its provider, or by the manifest's command. It is never destroyed from here. */
export type OwnBox = {
  readonly id: string
  readonly control: InstanceControl
  /** For messages: `vast instance 123`, `the command stop-me`. */
  readonly subject: string
}

export type OwnBoxDeps = {
  /** Environment, secrets file and PID 1: where providers put what a box needs for itself. */
  readonly lookup: (name: string) => string | undefined
  readonly send: Send
  readonly clock: ProviderClock
  readonly searchPath: string
}

/** The key that the provider puts into the box, for this one instance alone. */
export const OWN_KEYS = { vast: 'CONTAINER_API_KEY', runpod: 'RUNPOD_API_KEY' } as const

const COMMAND_MS = 60_000

export type FindOwnBox = (planned: PlannedBudget | null) => OwnBox | null

/**
 * Tells how this box is stopped: by its provider where there is a key for it, else by the command; null: by nothing
 * known. A key that is set later counts at once; the control stays one, because it keeps the provider's intervals.
 */
export const createFindOwnBox = (deps: OwnBoxDeps): FindOwnBox => {
  let known: OwnInstance | undefined
  return (planned) => {
    const own = findOwnInstance(deps.lookup, deps)
    if (own !== undefined && missingKey(deps.lookup) === null) {
      if (known?.id !== own.id || known.control.name !== own.control.name) known = own
      return { ...known, subject: `${known.control.name} instance ${known.id}` }
    }
    const stop = planned?.stop
    if (!stop) return null
    const control = createCommandControl(
      { stop: stop.command, check: stop.check ?? undefined },
      { run: runStatus(deps) },
    )
    return { id: 'this box', control, subject: `the command ${basename(stop.command[0] ?? '')}` }
  }
}

/** The name of the key that this box lacks for its provider; null where it has one, or no provider is known. */
export const missingKey = (lookup: OwnBoxDeps['lookup']): string | null => {
  const key = lookup('CONTAINER_ID') ? OWN_KEYS.vast : lookup('RUNPOD_POD_ID') ? OWN_KEYS.runpod : null
  return key === null || lookup(key) ? null : key
}

/** Runs the manifest's own commands with nothing of the agent's environment but PATH and HOME. */
const runStatus =
  ({ searchPath, lookup }: Pick<OwnBoxDeps, 'searchPath' | 'lookup'>): RunStatus =>
  async ([name = '', ...args], { signal }) => {
    const program = findProgram(name, searchPath)
    if (program === undefined)
      throw new AgentError('program_missing', `${name} is not on the PATH of the agent`)
    const env = { PATH: searchPath, LANG: 'C', HOME: lookup('HOME') ?? '/' }
    const { exitCode, timedOut } = await runCommand([program, ...args], {
      env,
      timeoutMs: COMMAND_MS,
      signal,
    })
    if (timedOut)
      throw new AgentError('provider_failed', `${basename(name)} took longer than ${COMMAND_MS / 1000} s`)
    return exitCode ?? 1
  }

/** What the box was rented for, as `agentctl up` told it; null where something else rented it. */
export const rentedUsdPerHour = (lookup: OwnBoxDeps['lookup']): number | null => {
  const price = Number(lookup(RATE_VARIABLE))
  return price > 0 && Number.isFinite(price) ? price : null
}
