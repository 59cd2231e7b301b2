import { hostname } from 'node:os'
import { AgentError } from '../../shared/contract/errors.ts'
import type { ErrorCode } from '../../shared/contract/errors.ts'
import type { SshTarget } from '../context/target.ts'
import { isPlainPath, isPlainProgram, targetText } from '../context/target.ts'
import { isPin } from '../tls/pin.ts'
import { agentdMissing, agentdWords, USUAL_AGENTD } from './agentd-failure.ts'
import { makePlaces } from './places.ts'
import type { SshContext, SshEnd } from './ssh.ts'
import { runOnBox } from './ssh.ts'
import { sshFailure } from './ssh-failure.ts'

/** What `agentd pair --json` gave, checked, and where its agent listens. */
export type PairedBox = {
  readonly token: string
  readonly target: SshTarget
  /** The agent's TLS port on the box, where it has one: the way for an sshd that forwards no sockets. */
  readonly tls: SshTarget['tls']
}

/**
 * Makes a token on the box by running `agentd pair` there; the token comes back on ssh's own encrypted stream and is
 * never part of a command line.
 * @param agentd where agentd lies on the box: a name on its PATH, or an absolute path
 * @throws AgentError unreachable, unauthorized, program_missing, usage
 */
export const pairOverSsh = async (agentd: string, context: SshContext): Promise<PairedBox> => {
  if (!isPlainProgram(agentd))
    throw new AgentError('usage', `--agentd: ${agentd} is neither a program’s name nor a plain absolute path`)
  await makePlaces(context.places)
  const end = await runOnBox([agentd, 'pair', '--json', '--scope', 'admin', '--name', tokenName()], context)
  const target = { ...context.target, agentd: agentd === USUAL_AGENTD ? undefined : agentd }
  if (end.exitCode === 0) return readPairing(end.stdout, target)
  throw pairFailure(end, { agentd, context })
}

/** A token is called after the machine that has it; the name goes through the shell of the box. */
const tokenName = (): string => {
  const name = hostname()
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[-.]+/, '')
  return name === '' ? 'laptop' : name.slice(0, 64)
}

const AGENTD_CODES: Readonly<Partial<Record<number, ErrorCode>>> = { 4: 'unauthorized', 5: 'unreachable' }

const pairFailure = (
  { exitCode, stderr }: SshEnd,
  { agentd, context }: { agentd: string; context: SshContext },
): AgentError => {
  const where = targetText(context.target)
  if (exitCode === 255) return sshFailure({ stderr }, context)
  if (exitCode === 127 || exitCode === 126) return agentdMissing(agentd, where)
  const { message, hint } = agentdWords(stderr)
  return new AgentError(
    AGENTD_CODES[exitCode ?? 0] ?? 'internal',
    `agentd pair on ${where}: ${message ?? `it ended with ${exitCode ?? 'a signal'}`}`,
    { hint: hint ?? `Try it by hand on the box: ${agentd} pair --json.` },
  )
}

/** A login script may print something too, so the last line that is an object counts. */
const readPairing = (stdout: string, target: SshTarget): PairedBox => {
  const line = stdout.split('\n').findLast((one) => one.startsWith('{')) ?? ''
  const { token, socket, spkiPin, tlsPort } = parse(line)
  if (typeof token !== 'string' || !/^[\w.-]{16,512}$/.test(token))
    throw new AgentError('version_mismatch', `agentd on ${targetText(target)} gave no token`)
  return {
    token,
    target: typeof socket === 'string' && isPlainPath(socket) ? { ...target, socket } : target,
    tls:
      typeof spkiPin === 'string' && isPin(spkiPin) && isPort(tlsPort)
        ? { pin: spkiPin, port: tlsPort }
        : undefined,
  }
}

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535

const parse = (line: string): { token?: unknown; socket?: unknown; spkiPin?: unknown; tlsPort?: unknown } => {
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    // Whatever answered, it is not agentd.
    return {}
  }
}
