import { createRunpod } from './runpod.ts'
import type { InstanceControl, Provider, ProviderDeps } from './provider.ts'
import { createVast } from './vast.ts'

/** Providers that rent machines. */
export const RENTERS = ['vast', 'runpod'] as const
export type Renter = (typeof RENTERS)[number]

const ENDPOINTS: Readonly<Record<Renter, { readonly variable: string; readonly home: string }>> = {
  vast: { variable: 'VAST_ENDPOINT', home: 'https://console.vast.ai' },
  runpod: { variable: 'RUNPOD_ENDPOINT', home: 'https://api.runpod.io' },
}

/** The variable that holds the account's key on a laptop. */
export const KEY_VARIABLES: Readonly<Record<Renter, string>> = {
  vast: 'VAST_API_KEY',
  runpod: 'RUNPOD_API_KEY',
}

/** Where a provider's API is; `VAST_ENDPOINT` and `RUNPOD_ENDPOINT` move it. */
export const endpointOf = (name: Renter, environment: Readonly<Record<string, string | undefined>>): string =>
  (environment[ENDPOINTS[name].variable] || ENDPOINTS[name].home).replace(/(\/(api\/v\d|v\d))?\/*$/, '')

export const createProvider = (name: Renter, deps: ProviderDeps): Provider =>
  name === 'vast' ? createVast(deps) : createRunpod(deps)

/** The instance that a box is, and the control of it that the provider left there. */
export type OwnInstance = { readonly id: string; readonly control: InstanceControl }

/**
 * What this very box is at its provider, by the variables that the provider sets in it: its id, and a key that is
 * made for this one instance. Undefined on a machine of nobody that is known.
 * @param lookup environment, secrets file and PID 1, as the box reads its secrets
 */
export const findOwnInstance = (
  lookup: (name: string) => string | undefined,
  deps: Pick<ProviderDeps, 'send' | 'clock'>,
): OwnInstance | undefined => {
  const find = (renter: Renter, names: { id: string; keys: readonly string[] }): OwnInstance | undefined => {
    const id = lookup(names.id)
    if (!id) return undefined
    const { variable } = ENDPOINTS[renter]
    const endpoint = endpointOf(renter, { [variable]: lookup(variable) })
    const key = (): string | undefined => names.keys.map(lookup).find(Boolean)
    return { id, control: createProvider(renter, { ...deps, endpoint, key }) }
  }
  return (
    find('vast', { id: 'CONTAINER_ID', keys: ['CONTAINER_API_KEY'] }) ??
    find('runpod', { id: 'RUNPOD_POD_ID', keys: ['RUNPOD_API_KEY'] })
  )
}

/** What `agentctl up` pays for the box, in US dollars an hour: a box's own key may not read its price. */
export const RATE_VARIABLE = 'AGENT_USD_PER_HOUR'
