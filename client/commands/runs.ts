import { EXIT } from '../../shared/contract/errors.ts'
import type { RunRecord } from '../../shared/contract/records.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import type { Output } from '../output/output.ts'
import { problemLines } from '../output/problems.ts'
import { amount } from '../output/progress.ts'
import { runTable, stateText, timeText } from '../output/rows.ts'
import { dim } from '../output/text.ts'

export const runs: Command = {
  name: 'runs',
  group: 'Manifests and runs',
  summary: 'earlier attempts, newest first',
  example: 'agentctl runs',
  run: async (call) => {
    const answer = await (await call.api()).runs()
    if (call.output.json) call.output.document(answer)
    const { head, rows } = runTable(answer.runs)
    if (rows.length === 0) call.output.line('no runs yet: agentctl apply MANIFEST')
    call.output.table(head, rows)
    return EXIT.done
  },
}

const RUN_ID = { name: 'id', summary: 'the run; agentctl runs lists them', names: 'runs' as const }

export const runShow: Command = {
  name: 'run show',
  group: 'Manifests and runs',
  summary: 'one attempt, with its problems',
  example: 'agentctl run show ID',
  arguments: [RUN_ID],
  run: async (call) => {
    const answer = await (await call.api()).run(argument(call, 0))
    if (call.output.json) call.output.document(answer)
    showRun(answer.run, call.output)
    return EXIT.done
  },
}

export const runCancel: Command = {
  name: 'run cancel',
  group: 'Manifests and runs',
  summary: 'stop a run that is under way; what it did stays',
  example: 'agentctl run cancel ID',
  arguments: [RUN_ID],
  run: async (call) => {
    const answer = await (await call.api()).cancelRun(argument(call, 0))
    if (call.output.json) call.output.document(answer)
    showRun(answer.run, call.output)
    return EXIT.done
  },
}

const showRun = (run: RunRecord, output: Output): void => {
  output.line(stateText(run.state), ` ${run.id}`)
  output.line(dim('manifest  '), `${run.manifest.name} (${run.manifest.digest})`)
  output.line(dim('started   '), timeText(run.startedAt))
  output.line(dim('ended     '), timeText(run.endedAt))
  output.line(dim('progress  '), amount(run.progress) || 'nothing to fetch')
  output.lines(problemLines(run.problems))
}
