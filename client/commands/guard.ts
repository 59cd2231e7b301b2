import { EXIT } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { Call, Command } from '../command.ts'
import { flagOption, followUntilInterrupted, textOption } from '../command.ts'
import { bold, green, red } from '../output/text.ts'

const LEASE = '30m'
const EVERY = '1m'

export const guard: Command = {
  name: 'guard',
  group: 'Renting',
  summary: 'the lease outside: stops rented boxes that are silent or over budget',
  example: 'agentctl guard --install-service',
  options: [
    { flags: '--lease <duration>', summary: `how long an agent may be silent; by default ${LEASE}` },
    { flags: '--every <duration>', summary: `how often it looks; by default ${EVERY}` },
    { flags: '--install-service', summary: 'have this machine do it from every login on' },
    { flags: '--uninstall-service', summary: 'end that and remove it' },
  ],
  run: async (call) => {
    const { durationOption } = await import('../rent/read-order.ts')
    const leaseMs = durationOption(call, 'lease', LEASE)
    const everyMs = durationOption(call, 'every', EVERY)
    if (flagOption(call, 'installService')) return install(call)
    if (flagOption(call, 'uninstallService')) return uninstall(call)
    const { guardBoxes } = await import('../rent/guard-boxes.ts')
    const { output } = call
    output.note(
      `guarding what this machine rented: a look every ${formatDuration(everyMs)}, a lease of ${formatDuration(leaseMs)}`,
    )
    return followUntilInterrupted(call, () =>
      guardBoxes({
        call: { ...call, signal: call.longSignal },
        leaseMs,
        everyMs,
        report: ({ box, level, message }) => {
          const at = new Date().toISOString()
          if (output.json) output.document({ at, box, level, message })
          output.note(`${at} `, level === 'alarm' ? red(box) : bold(box), ` ${message}`)
        },
      }),
    )
  },
}

const words = (call: Call): string[] =>
  ['lease', 'every'].flatMap((name) => {
    const value = textOption(call, name)
    return value === undefined ? [] : [`--${name}`, value]
  })

const install = async (call: Call): Promise<number> => {
  const [{ checkServiceKeys, guardService }, { installService }] = await Promise.all([
    import('../rent/guard-service.ts'),
    import('../service/install-service.ts'),
  ])
  const service = await guardService(words(call), call)
  await checkServiceKeys(service)
  const installed = await installService(service, call.environment)
  if (call.output.json) call.output.document({ service: installed })
  call.output.line(green('installed'), ' ', bold(installed.path))
  return EXIT.done
}

const uninstall = async (call: Call): Promise<number> => {
  const [{ guardService }, { uninstallService }, { AgentError }] = await Promise.all([
    import('../rent/guard-service.ts'),
    import('../service/install-service.ts'),
    import('../../shared/contract/errors.ts'),
  ])
  const removed = await uninstallService(await guardService(words(call), call), call.environment)
  if (removed === undefined)
    throw new AgentError('not_found', 'there is no guard that runs as a service', {
      hint: 'Install it with agentctl guard --install-service.',
    })
  if (call.output.json) call.output.document({ service: removed })
  call.output.line('removed ', bold(removed.path))
  return EXIT.done
}
