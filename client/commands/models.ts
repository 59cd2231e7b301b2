import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { ModelRow } from '../../shared/contract/records.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Call, Command } from '../command.ts'
import { orDash, stateText, timeText } from '../output/rows.ts'
import { showDownloads } from '../show-downloads.ts'

export const models: Command = {
  name: 'models',
  group: 'The box',
  summary: 'what is there, from where, verified when; verify reads every byte again',
  example: 'agentctl models verify',
  arguments: [
    {
      name: 'verify',
      summary: 'the word verify: read every byte again',
      optional: true,
      choices: ['verify'],
    },
  ],
  run: async (call) => {
    const [action] = call.args
    if (action === 'verify') return await verify(call)
    if (action !== undefined)
      throw new AgentError('usage', `models does not know “${action}”`, {
        hint: 'Run agentctl models, or agentctl models verify.',
      })
    const answer = await (await call.api()).models()
    if (call.output.json) call.output.document(answer)
    show(answer.models, call)
    return EXIT.done
  },
}

const verify = async (call: Call): Promise<number> => {
  const { output, signal } = call
  const api = await call.api()
  const answer = await showDownloads(api.verifyModels(), { api, output, signal })
  if (output.json) output.document(answer)
  show(answer.models, call)
  if (answer.problems.length === 0) return EXIT.done
  output.problems(answer.problems)
  return EXIT.failed
}

const show = (rows: readonly ModelRow[], { output }: Call): void => {
  if (rows.length === 0) output.line('no models: nothing was downloaded yet')
  output.table(
    ['MODEL', 'STATE', 'SIZE', 'SHA256', 'VERIFIED', 'SOURCE'],
    rows.map((model) => [
      model.path,
      stateText(model.state),
      model.sizeBytes === null ? '-' : formatSize(model.sizeBytes),
      model.sha256 === null ? '-' : model.sha256.slice(0, 12),
      timeText(model.verifiedAt),
      orDash(model.source),
    ]),
  )
}
