import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import type { SshTarget } from '../context/target.ts'

/**
 * True where each connection to a box is an ssh of its own: the box was paired so, the user asks for it with
 * AGENTCTL_SSH=bridge, or this is Windows, whose ssh knows neither masters nor sockets.
 * @throws AgentError usage for another value of AGENTCTL_SSH
 */
export const isBridged = (
  target: Pick<SshTarget, 'isBridged'>,
  environment: Environment,
  platform: NodeJS.Platform = process.platform,
): boolean => {
  const asked = environment['AGENTCTL_SSH'] ?? ''
  if (asked !== '' && asked !== 'bridge')
    throw new AgentError('usage', `AGENTCTL_SSH is ${asked}, and can only be bridge`, {
      hint: 'Take it out of the environment, or set it to bridge: docs/connect.md.',
    })
  return asked === 'bridge' || platform === 'win32' || target.isBridged === true
}
