import { AgentError } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import { askToken } from '../../shared/preflight/ask-token.ts'
import { CLOCK_TOLERANCE_MS, watchClock } from '../../shared/preflight/watch-clock.ts'
import { endpointOf, KEY_VARIABLES, RENTERS } from '../../shared/providers/places.ts'
import type { Renter } from '../../shared/providers/places.ts'
import { allowHostsFrom, endpointsFrom } from '../../shared/sources/endpoints.ts'
import type { HubKind } from '../../shared/sources/endpoints.ts'
import type { ResolveContext } from '../../shared/sources/resolved-source.ts'
import type { Call } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { createFetcher } from '../fetch-source.ts'
import { findSecret } from '../find-secret.ts'
import { openProvider } from '../rent/open-provider.ts'
import { sleep } from '../wait.ts'
import type { Finding } from './finding.ts'

/** Nobody waits longer than this for one who does not answer. */
const WITHIN_MS = 10_000

const HUBS: Readonly<Record<HubKind, { readonly name: string; readonly variable: string }>> = {
  hf: { name: 'Hugging Face', variable: 'HF_ENDPOINT' },
  civitai: { name: 'Civitai', variable: 'CIVITAI_ENDPOINT' },
}

/**
 * What this machine needs of others: the hubs, each with the token that is set here; the providers whose key is here;
 * and a clock that agrees with theirs.
 */
export const outside = async ({
  environment,
  signal,
}: Pick<Call, 'environment' | 'signal'>): Promise<Finding[]> => {
  const policy = { endpoints: endpointsFrom(environment), allowHosts: allowHostsFrom(environment) }
  const { fetch, close } = createFetcher(policy)
  const clock = watchClock(fetch, () => new Date())
  const context: ResolveContext = {
    ...policy,
    fetch: clock.fetch,
    signal,
    clock: { now: () => new Date(), sleep: (ms) => sleep(ms, signal) },
    tokenFor: (kind) => findSecret(kind === 'hf' ? 'HF_TOKEN' : 'CIVITAI_TOKEN', environment),
  }
  try {
    const found = await Promise.all([
      hub('hf', context),
      hub('civitai', context),
      ...RENTERS.map((name) => provider(name, { environment, signal })),
    ])
    return [...found, clockFinding(clock.aheadMs())]
  } finally {
    close()
  }
}

const hub = async (kind: HubKind, context: ResolveContext): Promise<Finding> => {
  const { name, variable } = HUBS[kind]
  const address = context.endpoints[kind]
  try {
    return await inTime(address, context.signal, async (signal) => {
      const reply = await context.fetch({ url: address, headers: { 'user-agent': 'gpu-agent' } }, { signal })
      reply.discard()
      const detail = `${address} answers`
      if (reply.status >= 500)
        return { check: name, detail: `${detail} HTTP ${reply.status}`, fix: 'Try again later.' }
      const token = await askToken(kind, { ...context, signal })
      if (token.state === 'refused')
        return { check: name, detail: token.problem.message, fix: token.problem.hint }
      return {
        check: name,
        detail: token.state === 'accepted' ? `${detail} and takes the token` : detail,
        fix: null,
      }
    })
  } catch (error) {
    context.signal.throwIfAborted()
    return {
      check: name,
      detail: asAgentError(error).message,
      fix: `Look at the network of this machine, or name a mirror with ${variable}.`,
    }
  }
}

const provider = async (
  name: Renter,
  { environment, signal }: Pick<Call, 'environment' | 'signal'>,
): Promise<Finding> => {
  const address = endpointOf(name, environment)
  let hasKey = false
  try {
    const opened = await openProvider(name, environment)
    hasKey = true
    const boxes = await inTime(address, signal, (one) => opened.list({ signal: one }))
    return { check: name, detail: `${address} takes the key; ${boxes.length} rented`, fix: null }
  } catch (error) {
    signal.throwIfAborted()
    const { code, message } = asAgentError(error)
    // Who rents nowhere needs no key.
    if (!hasKey) return { check: name, detail: 'no key here, which only renting needs', fix: null }
    const fix =
      code === 'provider_key'
        ? `Set ${KEY_VARIABLES[name]} to a key that ${name} takes.`
        : 'Look at the network of this machine; boxes that are rented there cannot be seen or stopped from it now.'
    return { check: name, detail: message, fix }
  }
}

const clockFinding = (aheadMs: number | null): Finding => {
  if (aheadMs === null) return { check: 'clock', detail: 'not known: no hub told the time', fix: null }
  const off = `${formatDuration(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead' : 'behind'}`
  if (Math.abs(aheadMs) <= CLOCK_TOLERANCE_MS)
    return { check: 'clock', detail: 'agrees with the hubs’', fix: null }
  return {
    check: 'clock',
    detail: `${off} of the hubs’`,
    fix: 'Set it by the network (timedatectl set-ntp true): certificates and signed addresses fail by it.',
  }
}

/** @throws AgentError deadline, and what `ask` throws */
const inTime = async <T>(
  what: string,
  signal: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> => {
  const late = new AbortController()
  const timer = setTimeout(
    () => late.abort(new AgentError('deadline', `${what} does not answer within ${WITHIN_MS / 1000} s`)),
    WITHIN_MS,
  )
  try {
    return await ask(AbortSignal.any([signal, late.signal]))
  } finally {
    clearTimeout(timer)
  }
}
