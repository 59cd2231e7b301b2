import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Instance } from '../../shared/providers/provider.ts'
import type { Call, Command } from '../command.ts'
import { flagOption } from '../command.ts'
import { green } from '../output/text.ts'
import type { FoundBox } from '../rent/find-box.ts'

/** How long a provider is asked before it is said loudly that it did not do it. */
const WITHIN_MS = 600_000

export const down: Command = {
  name: 'down',
  group: 'Renting',
  summary: 'stop a rented box after a final sync, read back until it is true',
  example: 'agentctl down --destroy',
  arguments: [
    { name: 'box', summary: 'its id, label or context; by default the current context’s', optional: true },
  ],
  options: [
    { flags: '--destroy', summary: 'destroy it with its disk instead of stopping it' },
    { flags: '--lose-data', summary: 'do not sync, and give up what is on no remote' },
    { flags: '--sync-timeout <duration>', summary: 'for the final sync; by default 10m' },
  ],
  run: async (call) => {
    const [{ findBox }, { durationOption }] = await Promise.all([
      import('../rent/find-box.ts'),
      import('../rent/read-order.ts'),
    ])
    const deadlineMs = durationOption(call, 'sync-timeout', '10m')
    const box = await findBox(call.args[0], call)
    const isDestroy = flagOption(call, 'destroy')
    const before = await box.provider.show(box.id, call)
    const saved = flagOption(call, 'loseData')
      ? NOT_SAVED
      : await secure(before, { box, call, deadlineMs, isDestroy })
    const after = await end(before, { box, call, isDestroy })
    await remember(after, { box, call, saved })
    if (call.output.json)
      call.output.document({ box: { id: box.id, provider: box.provider.name, state: after.state } })
    call.output.line(green(after.state), ` ${box.provider.name} ${box.id}: read back`)
    if (after.state === 'stopped')
      call.output.note(`${box.provider.stopMeans}; agentctl up MANIFEST starts it again`)
    return EXIT.done
  },
}

type Ending = { readonly box: FoundBox; readonly call: Call; readonly isDestroy: boolean }

/** When everything was seen to be stored, and the processes that were stopped for it. */
type Saved = { readonly syncedAt: string | null; readonly stopped: readonly string[] }
const NOT_SAVED: Saved = { syncedAt: null, stopped: [] }

/** Sees that nothing is lost, as far as anything can be. @throws AgentError not_synced */
const secure = async (
  { state, since }: Instance,
  { box, call, deadlineMs, isDestroy }: Ending & { readonly deadlineMs: number },
): Promise<Saved> => {
  const { context, rental } = box
  if (state === 'gone') return NOT_SAVED
  if (state === 'stopped') {
    const syncedAt = rental?.syncedAt ?? null
    // A box that was started after that may have made more.
    const isSaved = syncedAt !== null && (since === null || syncedAt > since)
    if (isSaved || !isDestroy) return { syncedAt: isSaved ? syncedAt : null, stopped: [] }
    throw new AgentError('not_synced', `${box.id} is stopped, and its last sync was not verified`, {
      hint: 'Start it with agentctl up MANIFEST and repeat this, or give its data up with --lose-data.',
    })
  }
  // Nobody has ever worked on a box that no agent reached.
  if (context === null && rental !== undefined) return NOT_SAVED
  if (context === null)
    throw new AgentError('not_synced', `this machine does not know what is on ${box.id}`, {
      hint: 'Do it where it was rented, or give its data up with --lose-data.',
    })
  const { saveEverything } = await import('../rent/save-everything.ts')
  const stopped = await saveEverything(context, { call, deadlineMs })
  return { syncedAt: new Date().toISOString(), stopped }
}

const end = async (before: Instance, { box, call, isDestroy }: Ending): Promise<Instance> => {
  if (before.state === 'gone' || (before.state === 'stopped' && !isDestroy)) return before
  const [{ destroyConfirmed, stopConfirmed }, { systemClock }] = await Promise.all([
    import('../../shared/providers/confirm.ts'),
    import('../rent/open-provider.ts'),
  ])
  call.output.note(`${isDestroy ? 'destroying' : 'stopping'} ${box.provider.name} ${box.id}`)
  let told = ''
  const context = {
    signal: call.longSignal,
    clock: systemClock,
    withinMs: WITHIN_MS,
    report: ({ why }: { why: string }): void => {
      if (why !== told) call.output.note(`not yet: ${why}`)
      told = why
    },
  }
  return isDestroy ? destroyConfirmed(box.provider, box, context) : stopConfirmed(box.provider, box, context)
}

const remember = async (
  after: Instance,
  { box, call, saved }: Pick<Ending, 'box' | 'call'> & { readonly saved: Saved },
): Promise<void> => {
  const { rental, context } = box
  const [{ forgetRental, writeRental }, { forgetContext }] = await Promise.all([
    import('../rent/rentals.ts'),
    import('../context/forget-context.ts'),
  ])
  if (after.state === 'gone') {
    if (rental !== undefined) await forgetRental(rental.label, call.environment)
    if (context !== null) await forgetContext(context, call)
  } else if (rental !== undefined) {
    const stoppedProcesses = [...new Set([...rental.stoppedProcesses, ...saved.stopped])]
    await writeRental({ ...rental, syncedAt: saved.syncedAt, stoppedProcesses }, call.environment)
  }
}
