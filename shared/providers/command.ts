import { AgentError } from '../contract/errors.ts'
import type { CallContext, Instance, InstanceControl } from './provider.ts'
import { goneInstance } from './gone-instance.ts'

/** Runs a program and tells its exit status. @throws AgentError provider_failed when it could not be run */
export type RunStatus = (argv: readonly string[], context: CallContext) => Promise<number>

/**
 * A box of nobody that is known: the manifest's `budget.stop` says how it is stopped, and how to see that it is.
 * Without a check its state stays `unknown`, so a stop can never be confirmed.
 */
export const createCommandControl = (
  commands: { readonly stop: readonly string[]; readonly check: readonly string[] | undefined },
  { run }: { readonly run: RunStatus },
): InstanceControl => ({
  name: 'command',
  show: async (id, context): Promise<Instance> => ({
    ...goneInstance(id, 'command'),
    usdPerHour: null,
    state:
      commands.check === undefined
        ? 'unknown'
        : (await run(commands.check, context)) === 0
          ? 'stopped'
          : 'running',
  }),
  stop: async (_id, context) => {
    const status = await run(commands.stop, context)
    if (status !== 0)
      throw new AgentError('provider_failed', `budget.stop: ${commands.stop[0] ?? ''} ended with ${status}`, {
        hint: 'Run it by hand on the box.',
      })
  },
  // A command has no key; whether it stops the box shows when it does.
  checkKey: () => Promise.resolve({ read: 'accepted', write: 'untried' }),
})
