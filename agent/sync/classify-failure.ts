import type { ErrorCode } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { CommandResult } from '../platform/commands.ts'
import type { PlannedRemote } from './planned-sync.ts'

type Rule = { readonly matches: RegExp; readonly code: ErrorCode; readonly hint?: string }

/**
 * What rclone's last words mean. The text decides before the exit status: a wrong B2 key ends in 1, missing S3
 * credentials in 5 (“temporary”), a full disk in 1. The order matters: a network failure in the middle of
 * authenticating is a network failure.
 */
const RULES: readonly Rule[] = [
  {
    matches: /source file is being updated|corrupted on transfer|can't copy - source file/i,
    code: 'checkpoint_changed',
  },
  {
    matches: /RequestTimeTooSkewed|Time may be set wrong/i,
    code: 'sync_config',
    hint: 'The box’s clock is wrong; set it, the remote refuses signatures made at another time.',
  },
  {
    matches:
      /dial tcp|no such host|connection re(fused|set)|i\/o timeout|TLS handshake|network is unreachable|certificate/i,
    code: 'remote_unreachable',
    hint: 'Check the remote’s address and that the box reaches it; it is tried again.',
  },
  {
    matches:
      /cap_exceeded|insufficient[_ ]?(space|storage)|quota|no space left|507|preallocate: file too big|disk full|storage (limit|full)|not enough space/i,
    code: 'sync_quota',
  },
  {
    matches:
      /didn't find section|didn't find backend|unknown flag|unknown command|bucket (name )?.*(not found|does not exist)|NoSuchBucket|account not found|unsupported protocol|need .* (url|host)/i,
    code: 'sync_config',
  },
  {
    matches:
      /\b40[13]\b|unauthori[sz]ed|forbidden|failed to (authenticate|authorize)|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|token|login|couldn't (log ?in|connect SSH): .*auth|unable to authenticate|530 /i,
    code: 'sync_auth',
    hint: 'Renew the remote’s credentials and what they may do (list, read and write); give passwords as they are, not obscured.',
  },
]

/** A failed call of rclone as an error of ours, with no value of the remote's options in its text. */
export const classifyFailure = (
  result: CommandResult,
  { remote, verb }: { remote: PlannedRemote; verb: string },
): AgentError => {
  const words = withoutValues(lastWords(result.stderr), remote)
  const how =
    result.exitCode === null ? `was ended by ${result.signal ?? 'a signal'}` : `ended with ${result.exitCode}`
  const rule = RULES.find(({ matches }) => matches.test(words))
  return new AgentError(
    rule?.code ?? 'sync_failed',
    `remote ${remote.name}: rclone ${verb} ${how}${words ? `: ${words}` : ''}`,
    rule?.hint === undefined ? {} : { hint: rule.hint },
  )
}

/** The texts of the last error lines; fatal ones of older versions are plain text. */
const lastWords = (stderr: string): string => {
  const texts = stderr.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return line.trim() ? [line.trim()] : []
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string }
      return msg && ['error', 'critical', 'fatal'].includes(level ?? '') ? [msg.trim()] : []
    } catch {
      return [line]
    }
  })
  return [...new Set(texts)].slice(-3).join('; ').slice(-800)
}

/** Short values (a region, a flag) say nothing secret, and taking them out would garble the text. */
const SHORTEST_SECRET = 4

const withoutValues = (text: string, remote: PlannedRemote): string => {
  let clean = text
  for (const [name, value] of Object.entries(remote.options))
    if (
      value.length >= SHORTEST_SECRET &&
      !/^(url|host|endpoint|type|vendor|provider|region|user)$/.test(name)
    )
      clean = clean.replaceAll(value, `[${name}]`)
  return clean
}
