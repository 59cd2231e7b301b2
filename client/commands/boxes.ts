import { EXIT } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { orDash, stateText, timeText } from '../output/rows.ts'
import { yellow } from '../output/text.ts'

export const boxes: Command = {
  name: 'boxes',
  group: 'Renting',
  summary: 'what is rented, since when, at what cost; warns about strays',
  example: 'agentctl boxes',
  run: async (call) => {
    const { listBoxes } = await import('../rent/list-boxes.ts')
    const { boxes: rows, problems } = await listBoxes(call)
    const { output } = call
    const isWhole = !problems.some(({ severity }) => severity === 'error')
    if (output.json) {
      output.document({ boxes: rows, problems })
      return isWhole ? EXIT.done : EXIT.failed
    }
    if (rows.length === 0 && isWhole) output.line('nothing is rented with the keys of this machine')
    output.table(
      ['BOX', 'PROVIDER', 'GPU', 'AN HOUR', 'SINCE', 'FOR', 'STATE', 'AGENT', 'CONTEXT', 'LABEL'],
      rows.map((row) => [
        row.id,
        row.provider,
        orDash(row.gpu),
        row.usdPerHour === null ? '-' : `$${row.usdPerHour.toFixed(3)}`,
        timeText(row.since),
        row.since === null ? '-' : formatDuration(Math.max(0, Date.now() - Date.parse(row.since))),
        stateText(row.state),
        orDash(row.agent),
        orDash(row.context),
        orDash(row.label),
      ]),
    )
    const total = rows.reduce((sum, { usdPerHour }) => sum + (usdPerHour ?? 0), 0)
    if (rows.length > 0) output.line(`$${total.toFixed(2)} an hour altogether`)
    for (const row of rows) {
      if (row.warning === null) continue
      output.note(yellow('warning: '), `${row.provider} ${row.id}: ${row.warning}`)
      output.note(yellow('try: '), `agentctl down ${row.id} --destroy`)
    }
    output.problems(problems)
    return isWhole ? EXIT.done : EXIT.failed
  },
}
