import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { readSecretInput } from '../read-input.ts'

const NAME = {
  name: 'name',
  summary: 'as the manifest names it, for example HF_TOKEN',
  names: 'secrets' as const,
}

export const secretSet: Command = {
  name: 'secret set',
  group: 'Access',
  summary: 'give the box a secret, read from standard input',
  example: 'agentctl secret set HF_TOKEN < token.txt',
  arguments: [NAME],
  run: async (call) => {
    const name = argument(call, 0)
    const value = await readSecretInput(`the value of ${name}`, call.output)
    const answer = await (await call.api()).setSecret(name, value)
    if (call.output.json) call.output.document(answer)
    call.output.line(`the box has ${answer.secret.name} now`)
    return EXIT.done
  },
}

export const secretLs: Command = {
  name: 'secret ls',
  group: 'Access',
  summary: 'the names of the secrets that were given to the box; never their values',
  example: 'agentctl secret ls',
  run: async (call) => {
    const answer = await (await call.api()).secrets()
    if (call.output.json) call.output.document(answer)
    if (answer.secrets.length === 0) call.output.line('no secrets were given: agentctl secret set NAME')
    answer.secrets.forEach(({ name }) => call.output.line(name))
    return EXIT.done
  },
}

export const secretRm: Command = {
  name: 'secret rm',
  group: 'Access',
  summary: 'take a secret out of the box',
  example: 'agentctl secret rm HF_TOKEN',
  arguments: [NAME],
  run: async (call) => {
    const answer = await (await call.api()).removeSecret(argument(call, 0))
    if (call.output.json) call.output.document(answer)
    call.output.line(`the box has ${answer.removed} no more`)
    return EXIT.done
  },
}
