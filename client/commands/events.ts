import { EXIT } from '../../shared/contract/errors.ts'
import type { EventRecord } from '../../shared/contract/records.ts'
import type { Call, Command } from '../command.ts'
import { flagOption, followUntilInterrupted } from '../command.ts'
import { timeText } from '../output/rows.ts'
import { bold, dim } from '../output/text.ts'

export const events: Command = {
  name: 'events',
  group: 'The box',
  summary: 'the event journal: the newest two hundred, or what happens from now on',
  example: 'agentctl events --follow --json',
  options: [{ flags: '-f, --follow', summary: 'go on with what happens; with --json one object a line' }],
  run: async (call) => {
    const { output } = call
    const page = await (await call.api()).events({})
    if (!flagOption(call, 'follow')) {
      if (output.json) output.document(page)
      page.events.forEach((event) => showEvent(event, call))
      return EXIT.done
    }
    page.events.forEach((event) => showOrPrint(event, call))
    return await followUntilInterrupted(call, () => follow(page.events.at(-1)?.id ?? 0, call))
  },
}

const follow = async (after: number, call: Call): Promise<number> => {
  const { followEvents } = await import('../event-stream.ts')
  const api = await call.api()
  const onBroken = (error: Error): void => call.output.note(`${error.message}; trying again`)
  const onBack = (): void => call.output.note('connected again')
  for await (const { event, data } of followEvents(after, { api, signal: call.longSignal, onBroken, onBack }))
    if (event !== 'progress' && data !== undefined) showOrPrint(data as EventRecord, call)
  return EXIT.done
}

const showOrPrint = (event: EventRecord, call: Call): void => {
  if (call.output.json) call.output.document(event)
  else showEvent(event, call)
}

const showEvent = (event: EventRecord, { output }: Call): void => {
  const data = Object.keys(event.data).length === 0 ? '' : ` ${JSON.stringify(event.data)}`
  output.line(dim(timeText(event.at)), ' ', bold(event.type), ` ${event.subject}`, dim(data))
}
