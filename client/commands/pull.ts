import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { argument, flagOption, textOption } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { bold, green } from '../output/text.ts'
import { showDownloads } from '../show-downloads.ts'

export const pull: Command = {
  name: 'pull',
  group: 'The box',
  summary: 'fetch one model now',
  example: 'agentctl pull hf://owner/repo@main/model.safetensors --to loras/',
  arguments: [
    { name: 'source', summary: 'hf://owner/repo@revision/path, civitai://versions/ID or https://…' },
  ],
  options: [
    { flags: '--to <path>', summary: 'a file or folder on the box; by default the manifest’s models_root' },
    { flags: '--allow-pickle', summary: 'also a format that can run code when it is loaded' },
  ],
  run: async (call) => {
    const { output } = call
    const api = await call.api()
    const request = {
      source: argument(call, 0),
      to: textOption(call, 'to') ?? null,
      allow_pickle: flagOption(call, 'allowPickle'),
    }
    const { model, problems } = await showDownloads(api.pullModel(request), {
      api,
      output,
      signal: call.signal,
    }).catch((error: unknown) => {
      throw explainLeft(asAgentError(error))
    })
    if (output.json) output.document({ model, problems })
    output.problems(problems)
    const size = model.sizeBytes === null ? '' : `: ${formatSize(model.sizeBytes)}`
    output.line(
      green('fetched'),
      ' ',
      bold(model.path),
      `${size}, sha256 ${model.sha256 ?? 'unknown'}, verified`,
    )
    return EXIT.done
  },
}

/** Unlike a run, a pull ends with its caller. */
const explainLeft = (error: AgentError): AgentError =>
  ['interrupted', 'deadline', 'unreachable'].includes(error.code)
    ? new AgentError(error.code, `${error.message}; the pull stopped`, {
        cause: error,
        hint: 'Pull it again: what came is kept on the box, and only the rest is fetched.',
      })
    : error
