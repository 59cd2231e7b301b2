import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { AgentError } from '../../shared/contract/errors.ts'
import { atomicWrite, errnoOf } from './files.ts'

/** The secrets that were given to this box by hand: one file, readable by the agent's user alone. */
export type SecretFile = {
  /** Names only; values never leave the file but to what needs them. */
  readonly names: () => readonly string[]
  /** @throws AgentError bad_request for a name or a value that the file cannot hold */
  readonly set: (name: string, value: string) => void
  /** @throws AgentError not_found */
  readonly remove: (name: string) => void
}

const NAME = /^[A-Z][A-Z0-9_]{0,99}$/
const MAX_VALUE_BYTES = 32_768

export const openSecretFile = (path: string): SecretFile => {
  const read = (): Map<string, string> => {
    try {
      return new Map(
        Object.entries(parseEnv(readFileSync(path, 'utf8'))).map(([name, value]) => [name, value ?? '']),
      )
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return new Map()
      throw error
    }
  }
  const write = (secrets: ReadonlyMap<string, string>): void => {
    const lines = [...secrets].map(([name, value]) => `${name}=${quoted(name, value)}\n`)
    atomicWrite(path, lines.join(''), { mode: 0o600 })
  }
  return {
    names: () => [...read().keys()].toSorted(),
    set: (name, value) => {
      if (!NAME.test(name))
        throw new AgentError('bad_request', `“${name}” is not the name of a secret`, {
          hint: 'Write it in capitals, digits and underscores, like HF_TOKEN.',
        })
      if (value === '') throw new AgentError('bad_request', `the value of ${name} is empty`)
      write(read().set(name, value))
    },
    remove: (name) => {
      const secrets = read()
      if (!secrets.delete(name))
        throw new AgentError('not_found', `there is no secret ${name} in the box's own file`, {
          hint: 'agentctl secret ls lists their names.',
        })
      write(secrets)
    },
  }
}

/** The value in quotes that it does not hold itself; in ' and ` nothing is expanded (node's parseEnv). */
const quoted = (name: string, value: string): string => {
  const quote = ["'", '`'].find((mark) => !value.includes(mark))
  if (quote === undefined || /[\0\r\n]/.test(value) || Buffer.byteLength(value) > MAX_VALUE_BYTES)
    throw new AgentError('bad_request', `the value of ${name} cannot be kept`, {
      hint: `Give one line of at most ${MAX_VALUE_BYTES} bytes, without both ' and \` in it.`,
    })
  return `${quote}${value}${quote}`
}
