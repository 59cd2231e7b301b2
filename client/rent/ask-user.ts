import { createInterface } from 'node:readline'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Output } from '../output/output.ts'

/** True where somebody sits who can answer. */
export const canAsk = (): boolean => process.stdin.isTTY

/**
 * One line of the terminal, in lower case; empty when Enter alone, or the end of the input, was given. Ctrl-C while it
 * waits is the program's, not this question's.
 */
export const askUser = async (
  question: string,
  { output, signal }: { readonly output: Output; readonly signal: AbortSignal },
): Promise<string> => {
  output.note(question)
  const lines = createInterface({ input: process.stdin, signal })
  try {
    for await (const line of lines) return line.trim().toLowerCase()
    if (signal.aborted) throw signal.reason
    return ''
  } finally {
    lines.close()
  }
}

/** @throws AgentError usage where nobody can answer, interrupted where the answer is no */
export const confirmRenting = async (
  question: string,
  context: { readonly output: Output; readonly signal: AbortSignal },
): Promise<void> => {
  if (!canAsk())
    throw new AgentError('usage', 'nobody is here to say yes to the price', {
      hint: 'Repeat it with --yes; nothing was rented.',
    })
  const answer = await askUser(`${question} [y/N]`, context)
  if (answer !== 'y' && answer !== 'yes')
    throw new AgentError('interrupted', 'nothing was rented', { hint: 'Answer y to rent it.' })
}
