import { AgentError } from '../../shared/contract/errors.ts'
import type { CommandResult } from '../platform/commands.ts'
import type { PipSettings } from './pip.ts'
import { withoutLogin } from './requirement-files.ts'

/* What pip says for people, as far as something depends on it. */

/** Every line in which pip says why it refuses: errors on one stream, the chain of a conflict on the other. */
export const refusalLines = ({ stdout, stderr }: CommandResult): readonly string[] => {
  const lines = `${stdout}\n${stderr}`.split('\n').map((line) => line.trim())
  // Metadata that nobody should have published ends pip with a traceback; its last line is the reason.
  if (lines.includes('ERROR: Exception:'))
    return [`pip broke off: ${(lines.findLast(Boolean) ?? '').replace(/^[\w.]+\.(?=\w+:)/, '')}`]
  return lines
    .filter((line) => /^ERROR:|depends on|The user requested|requires a different Python/.test(line))
    .filter((line) => !line.includes('ResolutionImpossible'))
    .map((line) => line.replace(/^ERROR: /, ''))
}

/** True for a refusal in which pip itself failed. */
export const brokeOff = (said: readonly string[]): boolean =>
  said.some((line) => line.startsWith('pip broke off'))

/**
 * That no index answered, where this is the reason; pip goes on to say that the package has no versions.
 * After the last try it is left to the caller.
 */
export const lostIndex = (
  { stdout, stderr }: CommandResult,
  { environment }: PipSettings,
): AgentError | undefined => {
  const last = /Retrying \(Retry\(total=0,.*\)\) after connection broken by (.+): \//.exec(
    `${stdout}\n${stderr}`,
  )
  if (last === null) return undefined
  const asked = [
    environment['PIP_INDEX_URL'] ?? 'the one that pip asks by itself',
    environment['PIP_EXTRA_INDEX_URL'] ?? '',
  ]
  const why = /: ([^:]+?)['")]*$/.exec(last[1] ?? '')?.[1] ?? last[1] ?? ''
  return new AgentError(
    'source_unavailable',
    `the package index does not answer (${withoutLogin(asked.filter(Boolean).join(' '))}): ${why}`,
    { hint: 'Check the network of the box, and the index that PIP_INDEX_URL or pip.conf names.' },
  )
}
