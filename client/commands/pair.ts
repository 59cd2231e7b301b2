import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { connect } from '../connect.ts'
import { readContexts, writeContexts } from '../context/contexts.ts'
import { readSecretInput } from '../read-input.ts'
import { parseTarget, targetText } from '../context/target.ts'

export const pair: Command = {
  name: 'pair',
  group: 'Access',
  summary: 'make a context for a box; its token is read from standard input',
  arguments: [{ name: 'target', summary: 'unix:/path/agent.sock' }],
  options: [{ flags: '--name <name>', summary: 'the name of the context; by default the box’s host name' }],
  run: async (call) => {
    const target = parseTarget(argument(call, 0))
    const token = await readToken(call)
    const api = connect({ target, token }, { ...call, onAgentVersion: () => undefined })
    const { agent, host } = await api.status()
    const name = contextName(textOption(call, 'name') ?? host.hostname)
    const stored = await readContexts(call.environment)
    await writeContexts(call.environment, {
      current: name,
      contexts: { ...stored.contexts, [name]: { target: targetText(target), token, agentId: agent.id } },
    })
    const made = { name, target: targetText(target), agentId: agent.id, current: true }
    if (call.output.json) call.output.document({ context: made })
    call.output.line(`paired with ${host.hostname}; commands are about ${name} now`)
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

/** A host name may hold anything; a context’s name is typed on command lines. */
const contextName = (text: string): string => {
  const name = text.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-.]+/, '')
  return name === '' ? 'box' : name.slice(0, 64)
}
