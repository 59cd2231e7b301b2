import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { pairSsh, storeContext } from '../context/pair-box.ts'
import { readSecretInput } from '../read-input.ts'
import { parseTarget } from '../context/target.ts'

export const pair: Command = {
  name: 'pair',
  group: 'Access',
  summary: 'make a context for a box: over ssh, or with its token on standard input',
  arguments: [{ name: 'target', summary: '[user@]host[:port] for ssh, or unix:/path/agent.sock' }],
  options: [
    { flags: '--name <name>', summary: 'the name of the context; by default the box’s host name' },
    { flags: '--agentd <path>', summary: 'where agentd lies on the box; by default what its PATH finds' },
  ],
  run: async (call) => {
    const target = parseTarget(argument(call, 0))
    const name = textOption(call, 'name')
    const made =
      target.kind === 'ssh'
        ? await pairSsh({ target, name, agentd: textOption(call, 'agentd') ?? 'agentd' }, call)
        : await storeContext({ target, token: await readToken(call), name }, call)
    const { hostname, ...context } = made
    if (call.output.json) call.output.document({ context: { ...context, current: true } })
    call.output.line(`paired with ${hostname}; commands are about ${context.name} now`)
    return EXIT.done
  },
}

/** A token, or what `agentd pair --json` prints. @throws AgentError usage */
const readToken = async (call: Call): Promise<string> => {
  const text = await readSecretInput('the token of the box', call.output)
  const token = text.trimStart().startsWith('{') ? tokenOfPairing(text) : text.trim()
  if (token === '' || /\s/.test(token))
    throw new AgentError('usage', 'what came on standard input is not the token of a box', {
      hint: 'On the box: agentd pair --json | agentctl pair unix:/path/agent.sock.',
    })
  return token
}

const tokenOfPairing = (text: string): string => {
  try {
    const { token } = JSON.parse(text) as { token?: unknown }
    return typeof token === 'string' ? token : ''
  } catch {
    // Not what agentd prints, so there is no token in it.
    return ''
  }
}
