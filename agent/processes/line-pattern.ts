import { createContext, Script } from 'node:vm'
import { AgentError } from '../../shared/contract/errors.ts'

/** Far more than any honest pattern takes for a few hundred lines. */
const WITHIN_MS = 100

/**
 * A regular expression of a manifest, asked of lines that a program prints. Some expressions take for ever on the wrong
 * line (`^(a+)+$`), and on the event loop nothing would answer any more, not even a stop: a script of `vm` is what can be
 * cut off.
 * @returns whether one of the lines matches. @throws AgentError pattern_too_slow
 */
export const createLinePattern = (pattern: string): ((lines: readonly string[]) => boolean) => {
  const sandbox = createContext({ pattern: new RegExp(pattern, 'm'), lines: [] as readonly string[] })
  const script = new Script('lines.some((line) => pattern.test(line))')
  return (lines) => {
    sandbox['lines'] = lines
    try {
      return script.runInContext(sandbox, { timeout: WITHIN_MS }) as boolean
    } catch (error) {
      throw new AgentError(
        'pattern_too_slow',
        `the pattern ${pattern} took longer than ${WITHIN_MS} ms for the lines of one moment`,
        { cause: error },
      )
    }
  }
}
