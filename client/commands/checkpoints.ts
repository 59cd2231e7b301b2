import { EXIT } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { textOption } from '../command.ts'
import { stateText, timeText } from '../output/rows.ts'

export const checkpoints: Command = {
  name: 'checkpoints',
  group: 'Checkpoints',
  summary: 'what could be pulled, newest first',
  example: 'agentctl checkpoints --sync checkpoints',
  options: [{ flags: '--sync <name>', summary: 'of this sync alone' }],
  run: async (call) => {
    const answer = await (await call.api()).checkpoints(textOption(call, 'sync'))
    if (call.output.json) call.output.document(answer)
    if (answer.checkpoints.length === 0) call.output.line('no complete checkpoints yet')
    call.output.table(
      ['CHECKPOINT', 'SYNC', 'FILES', 'SIZE', 'COMPLETE', 'REMOTE', 'DIGEST'],
      answer.checkpoints.map((row) => [
        row.name,
        row.sync,
        String(row.files),
        formatSize(row.sizeBytes),
        timeText(row.completeAt),
        stateText(row.remoteState),
        row.digest.slice(0, 19),
      ]),
    )
    return EXIT.done
  },
}
