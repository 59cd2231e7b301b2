import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { pairSsh, storeContext } from '../context/pair-box.ts'
import { readSecretInput } from '../read-input.ts'
import type { Target } from '../context/target.ts'
import { parseTarget, targetText } from '../context/target.ts'
import { isPin, PIN_HINT } from '../tls/pin.ts'

export const pair: Command = {
  name: 'pair',
  group: 'Access',
  summary: 'make a context for a box: over ssh, or with its token on standard input',
  example: 'agentctl pair root@203.0.113.7:40022 --name gpu-7',
  arguments: [
    { name: 'target', summary: '[user@]host[:port] for ssh, https://host:port, or unix:/path/agent.sock' },
  ],
  options: [
    { flags: '--name <name>', summary: 'the name of the context; by default the box’s host name' },
    { flags: '--pin <pin>', summary: 'for https: the spkiPin that agentd pair --json prints on the box' },
    { flags: '--agentd <path>', summary: 'where agentd lies on the box; by default what its PATH finds' },
  ],
  run: async (call) => {
    const target = pinned(parseTarget(argument(call, 0)), textOption(call, 'pin'))
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

/** @throws AgentError usage where the pin is missing, is none, or is given for what has none */
const pinned = (target: Target, pin: string | undefined): Target => {
  if (target.kind !== 'https') {
    if (pin !== undefined)
      throw new AgentError('usage', `--pin is for https, and ${targetText(target)} is none`)
    return target
  }
  if (pin === undefined || !isPin(pin))
    throw new AgentError(
      'usage',
      pin === undefined ? `${targetText(target)} needs --pin` : `--pin: ${pin} is not sha256//BASE64`,
      { hint: PIN_HINT },
    )
  return { ...target, pin }
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
