import { AgentError } from '../../shared/contract/errors.ts'
import type { ErrorCode } from '../../shared/contract/errors.ts'
import type { SshTarget } from '../context/target.ts'
import { targetText } from '../context/target.ts'
import type { SshContext, SshEnd } from './ssh.ts'
import { destination } from './ssh.ts'

type Known = Pick<SshContext, 'target' | 'places'>

type Kind = {
  /** A line of ssh's own words that tells this failure. */
  readonly line: RegExp
  readonly code: ErrorCode
  hint(context: Known): string
}

/** The first that matches wins: a changed key is also a failed verification. */
const KINDS: readonly Kind[] = [
  {
    line: /REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed/i,
    code: 'unreachable',
    hint: ({ target, places }) =>
      `If the box was made anew: rm ${places.knownHosts}, then agentctl pair ${targetText(target)}. Otherwise somebody stands in between.`,
  },
  {
    line: /host key verification failed|host key is known/i,
    code: 'unreachable',
    hint: ({ places }) => `The key of the box is not the one in ${places.knownHosts}.`,
  },
  {
    line: /permission denied|too many authentication failures|no supported authentication/i,
    code: 'unauthorized',
    hint: ({ target }) =>
      `Put your key on the box, or load it with ssh-add; this must work without a question: ${trial(target)}`,
  },
  {
    line: /could not resolve hostname/i,
    code: 'unreachable',
    hint: () => 'Check the name of the box; a rented one may have another address now.',
  },
  {
    line: /connection refused/i,
    code: 'unreachable',
    hint: () => 'Check the port; a box that starts needs a minute until its sshd listens.',
  },
  {
    line: /timed out|no route to host|network is unreachable|connection closed|connection reset/i,
    code: 'unreachable',
    hint: ({ target }) => `Check that the box runs and its address is right: ${trial(target)}`,
  },
  {
    line: /bad configuration option|unsupported option|bad owner or permissions/i,
    code: 'unreachable',
    hint: () => 'Correct the ssh configuration of this machine; agentctl needs OpenSSH 7.6 or newer.',
  },
]

/** Why ssh itself failed (its exit status 255), as the error that a person is shown. */
export const sshFailure = (end: Pick<SshEnd, 'stderr'>, context: Known): AgentError => {
  const lines = end.stderr.split('\n').map((line) => line.trim().replace(/^@+|@+$/g, ''))
  const kind = KINDS.find(({ line }) => lines.some((one) => line.test(one)))
  const line = lines.find((one) => kind?.line.test(one)) ?? lines.findLast((one) => /\w/.test(one))
  const why = line?.trim().replace(/^ssh: /, '') ?? 'it said nothing'
  return new AgentError(
    kind?.code ?? 'unreachable',
    `ssh does not reach ${targetText(context.target)}: ${why}`,
    { hint: kind?.hint(context) ?? `Try it by hand: ${trial(context.target)}` },
  )
}

/** The command line that a person tries. */
const trial = (target: SshTarget): string =>
  ['ssh', ...destination(target).filter((word) => word !== '--'), 'true'].join(' ')
