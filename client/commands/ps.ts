import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { problemLines } from '../output/problems.ts'
import { processTable } from '../output/rows.ts'

export const ps: Command = {
  name: 'ps',
  group: 'Processes',
  summary: 'what the agent keeps running or ran',
  example: 'agentctl ps',
  run: async (call) => {
    const answer = await (await call.api()).processes()
    if (call.output.json) call.output.document(answer)
    const { head, rows } = processTable(answer.processes)
    if (rows.length === 0) call.output.line('no processes: the manifest names none')
    call.output.table(head, rows)
    call.output.lines(problemLines(answer.processes.flatMap(({ problem }) => problem ?? [])))
    return EXIT.done
  },
}
