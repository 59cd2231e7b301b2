import { EXIT } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { flagOption } from '../command.ts'
import { problemLines } from '../output/problems.ts'
import { pendingTable, syncTable } from '../output/rows.ts'

export const sync: Command = {
  name: 'sync',
  group: 'Checkpoints',
  summary: 'state of each sync; run one now',
  example: 'agentctl sync checkpoints --now',
  arguments: [{ name: 'name', summary: 'one sync alone', optional: true, names: 'syncs' }],
  options: [{ flags: '--now', summary: 'copy now, and return when everything is there' }],
  run: async (call) => {
    const name = call.args[0]
    const api = await call.api()
    const answer = flagOption(call, 'now') ? await api.syncNow(name ?? null) : await api.sync()
    const rows = answer.sync.filter((row) => name === undefined || row.name === name)
    if (name !== undefined && rows.length === 0)
      throw new AgentError('not_found', `there is no sync ${name}`, { hint: 'List them with agentctl sync.' })
    if (call.output.json) call.output.document({ sync: rows })
    const table = syncTable(rows)
    if (rows.length === 0) call.output.line('no syncs: the manifest names none')
    call.output.table(table.head, table.rows)
    const pending = pendingTable(rows)
    if (pending.rows.length > 0) call.output.line()
    call.output.table(pending.head, pending.rows)
    call.output.lines(problemLines(rows.flatMap(({ problem }) => problem ?? [])))
    const failed = flagOption(call, 'now') && rows.some((row) => row.problem?.severity === 'error')
    return failed ? EXIT.failed : EXIT.done
  },
}
