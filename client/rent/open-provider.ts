import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Renter } from '../../shared/providers/places.ts'
import { createProvider, endpointOf, KEY_VARIABLES, RENTERS } from '../../shared/providers/places.ts'
import type { Provider, ProviderClock } from '../../shared/providers/provider.ts'
import { sendRequest } from '../../shared/providers/send-request.ts'
import type { Environment } from '../command.ts'
import { sleep } from '../wait.ts'

/** Time as this machine has it. */
export const systemClock: ProviderClock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, signal ?? new AbortController().signal),
}

/** @throws AgentError provider_key where this machine has no key */
export const openProvider = async (name: Renter, environment: Environment): Promise<Provider> => {
  const key = await findKey(name, environment)
  if (key === undefined)
    throw new AgentError('provider_key', `this machine has no API key for ${name}`, {
      hint: `Set ${KEY_VARIABLES[name]}, or ${OWN_TOOLS[name].login}.`,
    })
  return createProvider(name, {
    send: sendRequest,
    clock: systemClock,
    endpoint: endpointOf(name, environment),
    key: () => key,
  })
}

/** The providers that this machine has a key for. */
export const openProviders = async (environment: Environment): Promise<readonly Provider[]> => {
  const keys = await Promise.all(RENTERS.map((name) => findKey(name, environment)))
  return Promise.all(
    RENTERS.filter((_, index) => keys[index] !== undefined).map((name) => openProvider(name, environment)),
  )
}

/** @throws AgentError usage */
export const renterNamed = (name: string): Renter => {
  const found = RENTERS.find((one) => one === name)
  if (found !== undefined) return found
  throw new AgentError('usage', `nothing can be rented from the provider ${name}`, {
    hint: `Write ${RENTERS.join(' or ')}.`,
  })
}

/** Where the providers' own tools keep the key that they were given; a service finds it there too. */
const OWN_TOOLS: Readonly<
  Record<
    Renter,
    {
      readonly login: string
      files(homes: { home: string; config: string }): readonly string[]
      read(text: string): string | undefined
    }
  >
> = {
  vast: {
    login: 'log in with vastai set api-key',
    files: ({ home, config }) => [join(config, 'vastai', 'vast_api_key'), join(home, '.vast_api_key')],
    read: (text) => text.trim() || undefined,
  },
  runpod: {
    login: 'log in with runpodctl config',
    files: ({ home }) => [join(home, '.runpod', 'config.toml')],
    read: (text) => /^\s*api_?key\s*=\s*["']([^"'\s]+)["']/im.exec(text)?.[1],
  },
}

const findKey = async (name: Renter, environment: Environment): Promise<string | undefined> => {
  const given = environment[KEY_VARIABLES[name]]
  if (given) return given
  const home = environment['HOME'] ?? '/'
  const config = environment['XDG_CONFIG_HOME'] || join(home, '.config')
  for (const file of OWN_TOOLS[name].files({ home, config })) {
    const text = await readFile(file, 'utf8').catch(() => '')
    const key = OWN_TOOLS[name].read(text)
    if (key !== undefined) return key
  }
  return undefined
}
