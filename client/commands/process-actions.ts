import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { stateText } from '../output/rows.ts'
import { bold } from '../output/text.ts'

const action = (name: 'start' | 'stop' | 'restart', summary: string): Command => ({
  name,
  group: 'Processes',
  summary,
  example: `agentctl ${name} comfyui`,
  arguments: [{ name: 'process', summary: 'its name; agentctl ps lists them', names: 'processes' }],
  run: async (call) => {
    const answer = await (await call.api()).actOn(argument(call, 0), name)
    if (call.output.json) call.output.document(answer)
    const { process, result } = answer
    // “already stopped, now stopped” would say it twice.
    const now = result.endsWith(process.state) ? [] : [', now ', stateText(process.state)]
    call.output.line(bold(process.name), `: ${result.replaceAll('_', ' ')}`, ...now)
    return EXIT.done
  },
})

export const start = action('start', 'start a process; says so when it runs already')
export const stop = action('stop', 'stop a process; it stays stopped until it is started')
export const restart = action('restart', 'stop a process and start it again')
