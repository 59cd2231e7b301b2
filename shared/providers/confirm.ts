import { AgentError } from '../contract/errors.ts'
import type { CallContext, Instance, InstanceControl, Provider, ProviderClock } from './provider.ts'

/** What is asked for, and what was read back. Asking again tells why again. */
export type ConfirmReport = {
  readonly attempt: number
  readonly instance: Instance | null
  readonly why: string
}

type ConfirmContext = CallContext & {
  readonly clock: ProviderClock
  /** How long it is asked for and read back before it is given up; null: for ever. */
  readonly withinMs: number | null
  readonly report?: (report: ConfirmReport) => void
}

const READ_EVERY_MS = 3_000
/** A stop that was accepted takes some seconds; after this long it is asked for once more. */
const ASK_AGAIN_MS = 30_000
const LONGEST_PAUSE_MS = 60_000

/**
 * Stops an instance and reads it back until it is stopped or gone: accepted is not done.
 * @throws AgentError stop_unconfirmed after `withinMs`; the signal's reason
 */
export const stopConfirmed = (
  control: InstanceControl,
  target: { readonly id: string },
  context: ConfirmContext,
): Promise<Instance> =>
  confirm(
    {
      what: `${control.name} instance ${target.id} is not stopped`,
      act: () => control.stop(target.id, context),
      read: () => control.show(target.id, context),
      isDone: ({ state }) => state === 'stopped' || state === 'gone',
    },
    context,
  )

/** Destroys an instance and reads it back until it is gone. @throws AgentError stop_unconfirmed; the signal's reason */
export const destroyConfirmed = (
  provider: Provider,
  target: { readonly id: string },
  context: ConfirmContext,
): Promise<Instance> =>
  confirm(
    {
      what: `${provider.name} instance ${target.id} is not destroyed`,
      act: () => provider.destroy(target.id, context),
      read: () => provider.show(target.id, context),
      isDone: ({ state }) => state === 'gone',
    },
    context,
  )

type Step = {
  readonly what: string
  readonly act: () => Promise<void>
  readonly read: () => Promise<Instance>
  readonly isDone: (instance: Instance) => boolean
}

const confirm = async (step: Step, context: ConfirmContext): Promise<Instance> => {
  const { clock, signal, withinMs } = context
  const beganMs = clock.monotonicMs()
  let askedMs = Number.NEGATIVE_INFINITY
  let failures = 0
  for (let attempt = 1; ; attempt += 1) {
    let why: string
    let instance: Instance | null = null
    try {
      if (clock.monotonicMs() - askedMs >= ASK_AGAIN_MS) {
        await step.act()
        askedMs = clock.monotonicMs()
      }
      instance = await step.read()
      if (step.isDone(instance)) return instance
      failures = 0
      why = `it is ${instance.state}`
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof AgentError)) throw error
      failures += 1
      why = error.message
    }
    context.report?.({ attempt, instance, why })
    const pauseMs = Math.min(LONGEST_PAUSE_MS, READ_EVERY_MS * 2 ** Math.min(failures, 5))
    if (withinMs !== null && clock.monotonicMs() + pauseMs - beganMs > withinMs)
      throw new AgentError('stop_unconfirmed', `${step.what}: ${why}`)
    await clock.sleep(pauseMs, signal)
  }
}
