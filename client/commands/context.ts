import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { findContext, readContexts, writeContexts } from '../context/contexts.ts'
import { forgetContext } from '../context/forget-context.ts'
import { green } from '../output/text.ts'

export const contextLs: Command = {
  name: 'context ls',
  group: 'Access',
  summary: 'the boxes this machine knows; never their tokens',
  example: 'agentctl context ls',
  run: async ({ environment, output }) => {
    const { current, contexts } = await readContexts(environment)
    const rows = Object.entries(contexts).map(([name, { target, agentId }]) => ({
      name,
      target,
      agentId,
      current: name === current,
    }))
    if (output.json) output.document({ contexts: rows })
    if (rows.length === 0) output.line('no contexts: agentctl pair TARGET makes one')
    output.table(
      ['', 'CONTEXT', 'TARGET', 'AGENT'],
      rows.map((row) => [row.current ? green('*') : ' ', row.name, row.target, row.agentId ?? '-']),
    )
    return EXIT.done
  },
}

const NAME = {
  name: 'name',
  summary: 'the context; agentctl context ls lists them',
  names: 'contexts' as const,
}

export const contextUse: Command = {
  name: 'context use',
  group: 'Access',
  summary: 'the box that commands are about from now on',
  example: 'agentctl context use gpu-7',
  arguments: [NAME],
  run: async (call) => {
    const name = argument(call, 0)
    const stored = await readContexts(call.environment)
    findContext(stored, name)
    await writeContexts(call.environment, { ...stored, current: name })
    if (call.output.json) call.output.document({ current: name })
    call.output.line(`commands are about ${name} now`)
    return EXIT.done
  },
}

export const contextRm: Command = {
  name: 'context rm',
  group: 'Access',
  summary: 'forget a box here; its token stays valid until it is revoked there',
  example: 'agentctl context rm gpu-7',
  arguments: [NAME],
  run: async (call) => {
    const name = argument(call, 0)
    const stored = await readContexts(call.environment)
    findContext(stored, name)
    await forgetContext(name, call)
    if (call.output.json) call.output.document({ removed: name })
    call.output.line(`forgot ${name}; revoke its token on the box with agentctl token revoke`)
    return EXIT.done
  },
}
