import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument, NAME_KINDS } from '../command.ts'

export const completion: Command = {
  name: 'completion',
  group: 'This machine',
  summary: 'a script that completes agentctl’s words in a shell',
  example: 'source <(agentctl completion bash)',
  arguments: [{ name: 'shell', summary: 'bash, zsh or fish', choices: ['bash', 'zsh', 'fish'] }],
  run: async (call) => {
    const { completionScript, SHELLS } = await import('../completion-script.ts')
    const asked = argument(call, 0)
    const kind = NAME_KINDS.find((one) => one === asked)
    if (kind !== undefined) {
      const { completionNames } = await import('../completion-names.ts')
      for (const name of await completionNames(kind, call)) call.output.line(name)
      return EXIT.done
    }
    const shell = SHELLS.find((one) => one === asked)
    if (shell === undefined)
      throw new AgentError('usage', `there is no completion for ${asked}`, {
        hint: 'Write bash, zsh or fish.',
      })
    const script = completionScript(shell, call.commands)
    if (call.output.json) call.output.document({ shell, script })
    else await call.output.raw(script)
    return EXIT.done
  },
}
