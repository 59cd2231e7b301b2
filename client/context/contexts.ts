import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { configFolder, readJsonFile, writePrivateFile } from '../private-file.ts'
import type { Target } from './target.ts'
import { parseTarget, targetText } from './target.ts'

/** What a rented box is at its provider: a changed address is looked up by it. */
export type RentedBox = { readonly provider: string; readonly id: string }

/** One box as this machine knows it. */
export type StoredContext = {
  readonly target: string
  readonly token: string
  readonly agentId: string | null
  /** The pin of the agent's certificate, where it is reached over TLS. */
  readonly pin?: string
  /** The agent's TLS port on the box, where the box's sshd forwards no sockets. */
  readonly tlsPort?: number
  /** Where the box's sshd forwards nothing: each connection runs `agentd bridge` there. */
  readonly bridge?: true
  /** Where agentd lies on the box, where its PATH does not find it. */
  readonly agentd?: string
  readonly rental?: RentedBox
}

/** The way to a box that is stored, with its pin. @throws AgentError usage */
export const targetOf = ({ target, pin, tlsPort, bridge, agentd }: StoredContext): Target => {
  const parsed = parseTarget(target)
  switch (parsed.kind) {
    case 'unix':
      return parsed
    case 'https':
      return { ...parsed, pin }
    case 'ssh':
      return {
        ...parsed,
        tls: pin === undefined || tlsPort === undefined ? undefined : { pin, port: tlsPort },
        isBridged: bridge === true,
        agentd,
      }
  }
}

/** A context as it is stored. */
export const storedContext = (
  target: Target,
  known: Pick<StoredContext, 'token' | 'agentId' | 'rental'>,
): StoredContext => {
  const pin = target.kind === 'https' ? target.pin : target.kind === 'ssh' ? target.tls?.pin : undefined
  const ssh = target.kind === 'ssh' ? target : undefined
  const tlsPort = ssh?.tls?.port
  return {
    target: targetText(target),
    ...known,
    ...(pin === undefined ? {} : { pin }),
    ...(tlsPort === undefined ? {} : { tlsPort }),
    ...(ssh?.isBridged === true ? { bridge: true } : {}),
    ...(ssh?.agentd === undefined ? {} : { agentd: ssh.agentd }),
  }
}

export type Contexts = {
  readonly current: string | null
  readonly contexts: Readonly<Record<string, StoredContext>>
}

export const contextsFile = (environment: Environment): string =>
  join(configFolder(environment), 'contexts.json')

/** The contexts that are stored; none when nothing was paired yet. @throws AgentError io_error */
export const readContexts = async (environment: Environment): Promise<Contexts> => {
  const file = contextsFile(environment)
  const value = await readJsonFile(file)
  if (value === undefined) return { current: null, contexts: {} }
  if (!isContexts(value))
    throw new AgentError('io_error', `${file} is not a list of contexts`, {
      hint: 'Move the file away and pair again: agentctl pair TARGET.',
    })
  return value
}

/** The file holds tokens, so it is readable by its user alone. */
export const writeContexts = (environment: Environment, contexts: Contexts): Promise<void> =>
  writePrivateFile(contextsFile(environment), `${JSON.stringify(contexts, undefined, 2)}\n`)

/** @throws AgentError not_found */
export const findContext = (contexts: Contexts, name: string): StoredContext => {
  const found = Object.hasOwn(contexts.contexts, name) ? contexts.contexts[name] : undefined
  if (found === undefined)
    throw new AgentError('not_found', `there is no context ${name}`, {
      hint: 'List them with agentctl context ls, or make one with agentctl pair TARGET.',
    })
  return found
}

const isContexts = (value: unknown): value is Contexts =>
  isRecord(value) &&
  (value['current'] === null || typeof value['current'] === 'string') &&
  isRecord(value['contexts']) &&
  Object.values(value['contexts']).every(
    (one) => isRecord(one) && typeof one['target'] === 'string' && typeof one['token'] === 'string',
  )

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
