import { realpath } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Call } from '../command.ts'
import type { ServiceDefinition } from '../service/service-files.ts'
import { serviceEnvironment } from '../service/service-environment.ts'
import { openProviders } from './open-provider.ts'

/** `guard` as a service of the user. No key is in it: it reads them where the providers' own tools keep them. */
export const guardService = async (
  words: readonly string[],
  { environment }: Pick<Call, 'environment'>,
): Promise<ServiceDefinition> => ({
  name: 'gpu-agent-guard',
  description: 'Stops rented boxes that are silent or over budget',
  argv: [process.execPath, await realpath(process.argv[1] ?? ''), 'guard', ...words],
  environment: serviceEnvironment(environment, ['VAST_ENDPOINT', 'RUNPOD_ENDPOINT']),
})

/** @throws AgentError provider_key where no key is left without the caller's environment */
export const checkServiceKeys = async ({ environment }: ServiceDefinition): Promise<void> => {
  if ((await openProviders(environment)).length > 0) return
  throw new AgentError('provider_key', 'a service gets no key from VAST_API_KEY or RUNPOD_API_KEY', {
    hint: 'Log in with the provider’s own tool: vastai set api-key, or runpodctl config.',
  })
}
