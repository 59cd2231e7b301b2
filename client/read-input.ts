import { AgentError } from '../shared/contract/errors.ts'
import type { Output } from './output/output.ts'

/** Longer than any token or key; a mistaken file is not read to its end. */
const MAX_LENGTH = 64 * 1024

/**
 * A secret from standard input: never from argv, where every user of the machine could read it. On a terminal it is
 * typed without being shown.
 * @throws AgentError usage when there is none, interrupted
 */
export const readSecretInput = async (what: string, output: Output): Promise<string> => {
  const text = process.stdin.isTTY ? await readHidden(what, output) : await readStandardInput(MAX_LENGTH)
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '')
    throw new AgentError('usage', `${what} is expected on standard input`, {
      hint: 'Give it with < FILE, or type it when asked.',
    })
  return secret
}

/** Everything that standard input gives. @throws AgentError usage where that is too much */
export const readStandardInput = async (maxLength: number): Promise<string> => {
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += String(chunk)
    if (text.length > maxLength)
      throw new AgentError('usage', `standard input has more than ${maxLength} characters`)
  }
  return text
}

const CTRL_C = '\u0003'
const CTRL_D = '\u0004'
const BACKSPACE = /^[\b\u007f]$/

const readHidden = async (what: string, output: Output): Promise<string> => {
  output.note(`${what} (it is not shown), then Enter:`)
  process.stdin.setRawMode(true)
  let typed = ''
  try {
    for await (const chunk of process.stdin) {
      for (const key of String(chunk)) {
        if (key === CTRL_C)
          throw new AgentError('interrupted', 'interrupted', { hint: 'Nothing was changed.' })
        if (key === '\r' || key === '\n' || key === CTRL_D) return typed
        typed = BACKSPACE.test(key) ? typed.slice(0, -1) : typed + key
      }
    }
    return typed
  } finally {
    process.stdin.setRawMode(false)
  }
}
