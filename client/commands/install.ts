import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import type { MadeContext } from '../context/pair-box.ts'
import { pairSsh } from '../context/pair-box.ts'
import type { SshTarget } from '../context/target.ts'
import { parseTarget, targetText } from '../context/target.ts'
import { sleep } from '../wait.ts'

const PREFIX = '/opt/gpu-agent'
/** An agent that was just started listens within this time, on a machine that is busy with its own boot. */
const START_TRIES = 20
const TRY_EVERY_MS = 500

export const install: Command = {
  name: 'install',
  group: 'Access',
  summary: 'put the agent on a machine reached by ssh, start it at boot, pair',
  arguments: [{ name: 'target', summary: '[user@]host[:port]' }],
  options: [
    { flags: '--prefix <dir>', summary: `where it goes on the box; by default ${PREFIX}` },
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
    const prefix = textOption(call, 'prefix') ?? PREFIX
    const hasService = call.options['service'] !== false
    const state = await putRelease({ target, prefix, hasService }, call)
    const made = await pairInstalled({ target, prefix, hasService }, call)
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

type Place = { readonly target: SshTarget; readonly prefix: string; readonly hasService: boolean }

const putRelease = async (
  { target, prefix, hasService }: Place,
  call: Call,
): Promise<'present' | 'installed'> => {
  const [{ openRelease }, { installRelease, startRelease }, { tunnelPlaces }] = await Promise.all([
    import('../release.ts'),
    import('../tunnel/install-release.ts'),
    import('../tunnel/places.ts'),
  ])
  const { environment, output, signal } = call
  const context = { target, places: tunnelPlaces(target, environment), environment, signal }
  const release = await openRelease(textOption(call, 'release'), signal)
  try {
    output.note(`putting the agent into ${prefix} on ${targetText(target)}`)
    const placed = await installRelease({ prefix, release }, context)
    output.note(placed.state === 'present' ? 'this release is there already' : 'it is there and runs')
    const said = await startRelease({ prefix, placed, service: hasService }, context)
    for (const line of said.split('\n').filter(Boolean)) output.note(line)
    return placed.state
  } finally {
    await release.discard()
  }
}

/** Without a service an agent may or may not run; with one it has just been started and needs a moment. */
const pairInstalled = async (
  { target, prefix, hasService }: Place,
  call: Call,
): Promise<MadeContext | undefined> => {
  for (let tries = 1; ; tries += 1) {
    try {
      const agentd = `${prefix}/current/bin/agentd`
      return await pairSsh({ target, name: textOption(call, 'name'), agentd }, call)
    } catch (error) {
      const isAbsent = error instanceof AgentError && error.code === 'unreachable'
      if (!isAbsent || (hasService && tries >= START_TRIES)) throw error
      if (!hasService) return undefined
    }
    await sleep(TRY_EVERY_MS, call.signal)
  }
}
