import { EXIT } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { orDash, stateText, timeText } from '../output/rows.ts'

export const models: Command = {
  name: 'models',
  group: 'The box',
  summary: 'what is there, from where, verified when',
  run: async (call) => {
    const answer = await (await call.api()).models()
    if (call.output.json) call.output.document(answer)
    if (answer.models.length === 0) call.output.line('no models: the manifest names no downloads')
    call.output.table(
      ['MODEL', 'STATE', 'SIZE', 'SHA256', 'VERIFIED', 'SOURCE'],
      answer.models.map((model) => [
        model.path,
        stateText(model.state),
        model.sizeBytes === null ? '-' : formatSize(model.sizeBytes),
        model.sha256 === null ? '-' : model.sha256.slice(0, 12),
        timeText(model.verifiedAt),
        orDash(model.source),
      ]),
    )
    return EXIT.done
  },
}
