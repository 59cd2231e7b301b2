import { AgentError } from '../../shared/contract/errors.ts'
import { stopConfirmed } from '../../shared/providers/confirm.ts'
import type { Instance, InstanceControl } from '../../shared/providers/provider.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { OwnBox } from './own-box.ts'
import { within } from './within.ts'

type Context = { readonly clock: Clock; readonly signal: AbortSignal }

/** A provider's API takes its time, and is called again when it is refused. */
const CALL_MS = 60_000
/** A stop that is done shows within seconds; a container that is killed takes this agent with it. */
const CONFIRM_MS = 120_000

type StopContext = Context & {
  /** Asked before every call: what speaks against the stop now; undefined: nothing. */
  readonly objection: (signal: AbortSignal) => Promise<string | undefined>
}

/**
 * Stops the box and reads it back until that is true. A box that still runs minutes after an accepted stop is a failure
 * like any other: an operator's stop command was once an `echo`, and the box ran on.
 * @throws AgentError stop_failed; cancelled, when something speaks against it; the signal's reason
 */
export const stopOnce = async (box: OwnBox, context: StopContext): Promise<Instance> => {
  const { id, subject } = box
  const { clock } = context
  const against = new AbortController()
  const signal = AbortSignal.any([context.signal, against.signal])
  const control = inTime(box.control, clock)
  const stop: InstanceControl['stop'] = async (one, call) => {
    const why = await context.objection(call.signal)
    if (why !== undefined) against.abort(new AgentError('cancelled', why))
    signal.throwIfAborted()
    await control.stop(one, call)
  }
  try {
    return await stopConfirmed({ ...control, stop }, { id }, { clock, signal, withinMs: CONFIRM_MS })
  } catch (error) {
    signal.throwIfAborted()
    const why =
      box.control.name === 'command' && !(error instanceof AgentError && /: budget\.stop/.test(error.message))
        ? `${subject} was run, and this box still runs ${CONFIRM_MS / 60_000} min later`
        : errorText(error)
    throw new AgentError('stop_failed', why, { cause: error })
  }
}

/** Whether a box that was stopped is so still; true where it cannot be told. @throws the signal's reason */
export const isStillStopped = async (box: OwnBox, { clock, signal }: Context): Promise<boolean> => {
  try {
    const { state } = await inTime(box.control, clock).show(box.id, { signal })
    return state !== 'running' && state !== 'loading'
  } catch {
    signal.throwIfAborted()
    return true
  }
}

/** A stop is due, and there is no provider, no key and no command for it. */
export const noWayToStop = (): AgentError =>
  new AgentError('no_way_to_stop', 'this box is to be stopped, and nothing is known that could stop it')

/** The same control, whose calls end in time whatever hangs. */
const inTime = (control: InstanceControl, clock: Clock): InstanceControl => ({
  ...control,
  show: (id, { signal }) =>
    within((one) => control.show(id, { signal: one }), { ms: CALL_MS, what: 'the call', clock, signal }),
  stop: (id, { signal }) =>
    within((one) => control.stop(id, { signal: one }), { ms: CALL_MS, what: 'the call', clock, signal }),
})
