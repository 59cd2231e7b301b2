import { AgentError } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'
import { findProgram } from '../platform/commands.ts'
import { errorText } from '../platform/files.ts'
import type { StopFacts } from './check-budget.ts'
import { stopsNothing } from './check-budget.ts'
import { missingKey } from './own-box.ts'
import type { OwnBox, OwnBoxDeps } from './own-box.ts'
import type { PlannedBudget } from './planned-budget.ts'
import { within } from './within.ts'

const ASK_MS = 20_000

/**
 * Looks at how this box would be stopped, changing nothing. With `write` the key is also proven by a write that changes
 * nothing where the provider has one: the start of what runs already.
 * @throws the signal's reason
 */
export const gatherStopFacts = async (
  planned: PlannedBudget,
  context: {
    readonly own: Pick<OwnBoxDeps, 'lookup' | 'searchPath'>
    readonly box: OwnBox | null
    readonly clock: Clock
    readonly write: boolean
    /** As known before, for the time that the provider does not answer. */
    readonly usdPerHour: number | null
    readonly readGpuLoad: (signal: AbortSignal) => Promise<readonly (number | null)[] | null>
    readonly isOverLimit: boolean
    readonly signal: AbortSignal
  },
): Promise<StopFacts> => {
  const { own, box, clock, write, signal } = context
  const kind = box === null ? 'none' : box.control.name === 'command' ? 'command' : 'provider'
  const ask = <T>(work: (one: AbortSignal) => Promise<T>): Promise<T | string> =>
    within(work, { ms: ASK_MS, what: 'asking the provider', clock, signal }).catch((error: unknown) => {
      signal.throwIfAborted()
      return errorText(error)
    })
  const known = planned.usdPerHour ?? context.usdPerHour
  const isProvider = box !== null && kind === 'provider'
  const [key, loads] = await Promise.all([
    isProvider ? ask((one) => provenKey(box, { write, signal: one })) : null,
    planned.idleAfterMs === null ? [0] : context.readGpuLoad(signal),
  ])
  const needsPrice = isProvider && planned.maxCostUsd !== null && known === null
  const shown = needsPrice ? await ask((one) => box.control.show(box.id, { signal: one })) : null
  const price = shown === null || typeof shown === 'string' ? null : shown.usdPerHour
  const programs = kind === 'command' ? [planned.stop?.command[0], planned.stop?.check?.[0]] : []
  const missingPrograms = programs.filter(
    (name) => name !== undefined && findProgram(name, own.searchPath) === undefined,
  ) as string[]
  const canCheck =
    kind === 'command' &&
    planned.stop?.check != null &&
    missingPrograms.length === 0 &&
    !stopsNothing(planned.stop.command)
  const said = canCheck && box !== null ? await ask((one) => box.control.show(box.id, { signal: one })) : null
  return {
    subject: box?.subject ?? null,
    kind,
    missingKey: missingKey(own.lookup),
    key,
    missingPrograms,
    saysStopped: said === null || typeof said === 'string' ? null : said.state === 'stopped',
    usdPerHour: price ?? known,
    hasGpuLoad: loads !== null && loads.length > 0 && loads.every((percent) => percent !== null),
    isOverLimit: context.isOverLimit,
  }
}

/** A key that is not accepted for anything is an answer, not a failure to ask. */
const provenKey = async (
  { id, control }: OwnBox,
  context: { readonly write: boolean; readonly signal: AbortSignal },
) => {
  try {
    return await control.checkKey(id, context)
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'provider_key') throw error
    return { read: 'refused' as const, write: context.write ? ('refused' as const) : ('untried' as const) }
  }
}
