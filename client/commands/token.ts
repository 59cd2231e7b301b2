import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { SCOPES } from '../../shared/contract/states.ts'
import type { Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { timeText } from '../output/rows.ts'

export const tokenLs: Command = {
  name: 'token ls',
  group: 'Access',
  summary: 'the tokens of the box, without their texts',
  run: async (call) => {
    const answer = await (await call.api()).tokens()
    if (call.output.json) call.output.document(answer)
    call.output.table(
      ['ID', 'NAME', 'SCOPE', 'CREATED', 'LAST USED'],
      answer.tokens.map((token) => [
        token.id,
        token.name,
        token.scope,
        timeText(token.createdAt),
        timeText(token.lastUsedAt),
      ]),
    )
    return EXIT.done
  },
}

export const tokenCreate: Command = {
  name: 'token create',
  group: 'Access',
  summary: 'make a token; it is shown this once',
  arguments: [{ name: 'name', summary: 'who or what will use it' }],
  options: [{ flags: '--scope <scope>', summary: 'read (the default), operate or admin' }],
  run: async (call) => {
    const asked = textOption(call, 'scope') ?? 'read'
    const scope = SCOPES.find((one) => one === asked)
    if (scope === undefined)
      throw new AgentError('usage', `--scope: ${asked} is not a scope`, {
        hint: 'Write read, operate or admin.',
      })
    const token = await (await call.api()).createToken({ name: argument(call, 0), scope })
    if (call.output.json) call.output.document({ token })
    call.output.note(`token ${token.id} (${token.scope}) for ${token.name}; it is shown this once`)
    call.output.line(token.token)
    return EXIT.done
  },
}

export const tokenRevoke: Command = {
  name: 'token revoke',
  group: 'Access',
  summary: 'make a token worthless, at once',
  arguments: [{ name: 'id', summary: 'its id; agentctl token ls lists them' }],
  run: async (call) => {
    const answer = await (await call.api()).revokeToken(argument(call, 0))
    if (call.output.json) call.output.document(answer)
    call.output.line(`revoked ${answer.revoked}`)
    return EXIT.done
  },
}
