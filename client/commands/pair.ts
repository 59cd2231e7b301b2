import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { connect } from '../connect.ts'
import { readContexts, writeContexts } from '../context/contexts.ts'
import { parseTarget, targetText } from '../context/target.ts'

export const pair: Command = {
  name: 'pair',
  group: 'Access',
  summary: 'make a context for a box; its token is read from standard input',
  arguments: [{ name: 'target', summary: 'unix:/path/agent.sock' }],
  options: [{ flags: '--name <name>', summary: 'the name of the context; by default the box’s host name' }],
  run: async (call) => {
    const target = parseTarget(argument(call, 0))
    const token = await readToken()
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

/**
 * A token, or what `agentd pair --json` prints. Standard input keeps it out of argv and of the shell's history.
 * @throws AgentError usage
 */
const readToken = async (): Promise<string> => {
  if (process.stdin.isTTY) throw noToken()
  let text = ''
  for await (const chunk of process.stdin) {
    text += String(chunk)
    if (text.length > 4096) break
  }
  const token = text.trimStart().startsWith('{') ? tokenOfPairing(text) : text.trim()
  if (token === '' || /\s/.test(token) || token.length > 1000) throw noToken()
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

const noToken = (): AgentError =>
  new AgentError('usage', 'pair needs the token of the box on standard input', {
    hint: 'On the box: agentd pair --json | agentctl pair unix:/path/agent.sock.',
  })

/** A host name may hold anything; a context’s name is typed on command lines. */
const contextName = (text: string): string => {
  const name = text.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-.]+/, '')
  return name === '' ? 'box' : name.slice(0, 64)
}
