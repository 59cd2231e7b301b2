import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { configFolder, readJsonFile, writePrivateFile } from '../private-file.ts'

/** What a rented box is at its provider: a changed address is looked up by it. */
export type RentedBox = { readonly provider: string; readonly id: string }

/** One box as this machine knows it. */
export type StoredContext = {
  readonly target: string
  readonly token: string
  readonly agentId: string | null
  readonly rental?: RentedBox
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
