import type { Call, NameKind } from './command.ts'
import { readContexts } from './context/contexts.ts'

/**
 * Shells expand what they are offered, so a name from a box must not hold what a shell would run: a checkpoint called
 * `$(reboot)` is left out.
 */
const HARMLESS = /^[A-Za-z0-9][A-Za-z0-9._/@+-]*$/

/** The names of a kind, as far as they are safe to offer. @throws AgentError when the box cannot be asked */
export const completionNames = async (kind: NameKind, call: Call): Promise<readonly string[]> =>
  (await namesOf(kind, call)).filter((name) => HARMLESS.test(name))

const namesOf = async (kind: NameKind, call: Call): Promise<readonly string[]> => {
  if (kind === 'contexts') return Object.keys((await readContexts(call.environment)).contexts)
  const api = await call.api()
  switch (kind) {
    case 'processes':
      return (await api.processes()).processes.map(({ name }) => name)
    case 'runs':
      return (await api.runs()).runs.map(({ id }) => id)
    case 'syncs':
      return (await api.sync()).sync.map(({ name }) => name)
    case 'checkpoints':
      return ['latest', ...(await api.checkpoints(undefined)).checkpoints.map(({ name }) => name)]
    case 'secrets':
      return (await api.secrets()).secrets.map(({ name }) => name)
    case 'tokens':
      return (await api.tokens()).tokens.map(({ id }) => id)
    default:
      return kind satisfies never
  }
}
