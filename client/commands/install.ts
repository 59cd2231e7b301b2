import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { installAgent, USUAL_PREFIX } from '../context/install-agent.ts'
import { parseTarget, targetText } from '../context/target.ts'

export const install: Command = {
  name: 'install',
  group: 'Access',
  summary: 'put the agent on a machine reached by ssh, start it at boot, pair',
  example: 'agentctl install root@203.0.113.7:40022 --name gpu-7',
  arguments: [{ name: 'target', summary: '[user@]host[:port]' }],
  options: [
    { flags: '--prefix <dir>', summary: `where it goes on the box; by default ${USUAL_PREFIX}` },
    { flags: '--release <file>', summary: 'the release to send; by default this agentctl’s own' },
    { flags: '--no-service', summary: 'only put it there; do not start it, now or at boot' },
    { flags: '--name <name>', summary: 'the name of the context; by default the box’s host name' },
  ],
  run: async (call) => {
    const target = parseTarget(argument(call, 0))
    if (target.kind !== 'ssh')
      throw new AgentError('usage', `${targetText(target)}: the agent is installed through ssh`, {
        hint: 'Write [user@]host[:port].',
      })
    const prefix = textOption(call, 'prefix') ?? USUAL_PREFIX
    const { state, context: made } = await installAgent(
      {
        target,
        prefix,
        release: textOption(call, 'release'),
        hasService: call.options['service'] !== false,
        name: textOption(call, 'name'),
      },
      call,
    )
    if (call.output.json)
      call.output.document({
        install: { state, prefix },
        context: made === undefined ? null : { name: made.name, target: made.target, agentId: made.agentId },
      })
    if (made === undefined)
      call.output.line(
        `no agent runs there yet: start ${prefix}/current/bin/agentd, then agentctl pair ${targetText(target)} --agentd ${prefix}/current/bin/agentd`,
      )
    else call.output.line(`paired with ${made.hostname}; commands are about ${made.name} now`)
    return EXIT.done
  },
}
