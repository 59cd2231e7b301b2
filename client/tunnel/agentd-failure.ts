import { AgentError } from '../../shared/contract/errors.ts'

/** What the shell of a box is told to run where the context names nothing else. */
export const USUAL_AGENTD = 'agentd'

/** The shell of the box found no agentd (its exit status 126 or 127). */
export const agentdMissing = (agentd: string, where: string): AgentError =>
  new AgentError('program_missing', `${where} has no ${agentd} that its shell finds`, {
    hint: `Put the agent there with agentctl install ${where}, or name it: agentctl pair ${where} --agentd /path/agentd.`,
  })

/** The two lines of an agentd that failed, in what came on standard error. */
export const agentdWords = (
  stderr: string,
): { readonly message: string | undefined; readonly hint: string | undefined } => ({
  message: /^error: (.+)$/m.exec(stderr)?.[1],
  hint: /^try: (.+)$/m.exec(stderr)?.[1],
})
