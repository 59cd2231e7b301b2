import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { targetText } from '../context/target.ts'
import { agentdMissing, agentdWords, USUAL_AGENTD } from './agentd-failure.ts'
import type { Greeted } from './await-greeting.ts'
import type { SshContext } from './ssh.ts'
import { sshFailure } from './ssh-failure.ts'

/** Why a bridge did not come to carry, as the error that a person is shown. Nothing was sent. */
export const bridgeFailure = (
  { greeted, stderr }: { readonly greeted: Exclude<Greeted, { state: 'open' }>; readonly stderr: string },
  context: Pick<SshContext, 'target' | 'places'>,
): AgentError => {
  const { agentd = USUAL_AGENTD, socket } = context.target
  const where = targetText(context.target)
  if (greeted.state === 'silent')
    return new AgentError('unreachable', `ssh reaches ${where}, but ${agentd} bridge says nothing there`, {
      hint: `Try it by hand on the box: ${agentd} bridge --socket ${socket}.`,
    })
  const { exitCode } = greeted
  const { message, hint } = agentdWords(stderr)
  if (exitCode === 255) return sshFailure({ stderr }, context)
  if (exitCode === 126 || exitCode === 127) return agentdMissing(agentd, where)
  if (exitCode === EXIT.unreachable)
    return new AgentError('unreachable', `ssh reaches ${where}, but no agent answers on ${socket} there`, {
      hint: 'Start agentd on the box; where it has another --home, pair again.',
    })
  if (exitCode === EXIT.usage)
    return new AgentError('version_mismatch', `agentd on ${where} knows no bridge: ${message ?? 'usage'}`, {
      hint: `Put this version there: agentctl install ${where}.`,
    })
  const end = exitCode === null ? 'a signal' : `exit ${exitCode}`
  return new AgentError('unreachable', `${agentd} bridge on ${where}: ${message ?? `it ended with ${end}`}`, {
    hint: hint ?? `Try it by hand on the box: ${agentd} bridge --socket ${socket}.`,
  })
}
