import { EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { VERSION } from '../../shared/version.ts'

export const version: Command = {
  name: 'version',
  group: 'This machine',
  summary: 'of agentctl, and of the agent where it can be reached',
  example: 'agentctl version --json',
  run: async (call) => {
    const agent = await agentVersion(call)
    if (call.output.json) call.output.document({ agentctl: VERSION, agentd: agent })
    call.output.line(`agentctl ${VERSION}`)
    call.output.line(`agentd   ${agent ?? 'not reached'}`)
    return EXIT.done
  },
}

/** A box that cannot be reached does not keep anybody from learning the version of agentctl. */
const agentVersion = async (call: Call): Promise<string | null> =>
  call
    .api()
    .then(
      (api) => api.status().then(({ agent }) => agent.version),
      () => null,
    )
    .catch(() => null)
