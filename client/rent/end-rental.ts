import { AgentError } from '../../shared/contract/errors.ts'
import { destroyConfirmed } from '../../shared/providers/confirm.ts'
import type { Provider } from '../../shared/providers/provider.ts'
import type { Environment } from '../command.ts'
import type { Output } from '../output/output.ts'
import { systemClock } from './open-provider.ts'
import { forgetRental } from './rentals.ts'

/** What is known of a box that must not go on billing. */
export type Leftover = {
  readonly label: string
  readonly ids: readonly string[]
  /** True where the provider never said whether it made one: then its list is looked at more than once. */
  readonly isUnclear: boolean
}

/** How long a provider is asked to destroy what it made. */
const WITHIN_MS = 600_000
const LOOKS = 3

/**
 * Destroys everything that carries the label and reads it back until it is gone, then forgets the record. The record
 * stays when that cannot be seen: `boxes` shows it as a stray.
 * @throws AgentError stop_unconfirmed, provider_failed, provider_key
 */
export const endRental = async (
  provider: Provider,
  {
    leftover,
    output,
    environment,
    signal,
  }: {
    readonly leftover: Leftover
    readonly output: Output
    readonly environment: Environment
    readonly signal: AbortSignal
  },
): Promise<void> => {
  const ended = new Set<string>()
  const end = async (id: string): Promise<void> => {
    if (ended.has(id)) return
    output.note(`destroying ${provider.name} instance ${id}`)
    let told = ''
    const report = ({ why }: { why: string }): void => {
      if (why !== told) output.note(`not destroyed yet: ${why}`)
      told = why
    }
    await destroyConfirmed(provider, { id }, { signal, clock: systemClock, withinMs: WITHIN_MS, report })
    ended.add(id)
    output.note(`${provider.name} instance ${id} is gone: read back`)
  }
  try {
    for (const id of leftover.ids) await end(id)
    for (let looks = leftover.isUnclear ? LOOKS : 1; looks > 0; looks -= 1) {
      const all = await provider.list({ signal })
      const left = all.filter((one) => one.label === leftover.label && one.state !== 'gone')
      for (const { id } of left) await end(id)
      if (left.length > 0) break
    }
  } catch (error) {
    if (!(error instanceof AgentError) || error.code === 'interrupted') throw error
    throw new AgentError(
      'stop_unconfirmed',
      `${leftover.label} may go on costing money at ${provider.name}: ${error.message}`,
      {
        cause: error,
        hint: 'Run agentctl boxes until it is not listed, or destroy it on the provider’s own page.',
      },
    )
  }
  await forgetRental(leftover.label, environment)
}
