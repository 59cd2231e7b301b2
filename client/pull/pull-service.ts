import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Call } from '../command.ts'
import { readContexts } from '../context/contexts.ts'
import { serviceEnvironment } from '../service/service-environment.ts'
import type { ServiceDefinition } from '../service/service-files.ts'
import type { PullRequest } from './pull-checkpoint.ts'

/**
 * `pull-checkpoint --watch` as a service of the user. The token is not in it: the service reads it where this program
 * does, from the context's file, which its user alone may read.
 * @throws AgentError usage when the box is known by environment variables alone
 */
export const pullService = async (
  request: PullRequest,
  { call, every }: { call: Call; every: string },
): Promise<ServiceDefinition> => {
  const { environment } = call
  if (call.context === undefined && environment['AGENTCTL_TOKEN'])
    throw new AgentError('usage', 'a service gets no token from AGENTCTL_TOKEN', {
      hint: 'Pair this machine (agentctl pair TARGET), then install it with --context NAME.',
    })
  const context =
    call.context ?? (environment['AGENTCTL_HOST'] ? undefined : (await readContexts(environment)).current)
  const script = await realpath(process.argv[1] ?? '')
  const words = [
    ...(context === undefined || context === null ? [] : ['--context', context]),
    'pull-checkpoint',
    request.name,
    ...(request.sync === undefined ? [] : ['--sync', request.sync]),
    ...['--to', request.to, '--watch', '--every', every],
  ]
  const key = JSON.stringify([context, request.name, request.sync, request.to])
  return {
    name: `gpu-agent-pull-${createHash('sha256').update(key).digest('hex').slice(0, 8)}`,
    description: `Pulls ${request.name} from ${context ?? 'the box'} to ${request.to}`,
    argv: [process.execPath, script, ...words],
    environment: serviceEnvironment(call.environment),
  }
}
