import { globSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { Problem } from '../../../shared/contract/errors.ts'
import { processProblem } from '../describe-end.ts'

/** What a job must have made when it ends with 0: an exit status alone proves nothing. */
export const Expectation = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('files'), path: z.string(), glob: z.string(), count: z.number() }),
  /** A list in one file: a JSON array, or a line for each. */
  z.object({ kind: z.literal('entries'), path: z.string(), count: z.number() }),
])
export type Expectation = z.infer<typeof Expectation>

/** File systems keep times in steps of up to two seconds. */
const TIME_STEP_MS = 2_000

/**
 * The problem of a job that made too little, undefined when it made enough.
 * @param made.sinceMs files from before (milliseconds of the epoch) are another job's; they do not count
 */
export const findShortage = (
  expected: Expectation,
  made: { readonly name: string; readonly sinceMs: number },
): Problem | undefined => {
  const { name } = made
  if (expected.kind === 'entries') {
    const count = countEntries(expected.path)
    if (count >= expected.count) return undefined
    const message = `${name} ended with status 0, but wrote ${count} of ${expected.count} variants to ${expected.path}`
    return processProblem('variants_failed', { name, message })
  }
  const { path, glob, count } = expected
  const found = globSync(glob, { cwd: path }).filter((file) => isFresh(join(path, file), made.sinceMs))
  if (found.length >= count) return undefined
  const message = `${name} ended with status 0, but made ${found.length} of ${count} files ${join(path, glob)}`
  return processProblem('outputs_missing', { name, message })
}

const isFresh = (path: string, sinceMs: number): boolean => {
  const facts = statSync(path, { throwIfNoEntry: false })
  return facts?.isFile() === true && facts.size > 0 && facts.mtimeMs >= sinceMs - TIME_STEP_MS
}

const countEntries = (path: string): number => {
  try {
    const text = readFileSync(path, 'utf8')
    const list: unknown = text.trimStart().startsWith('[') ? JSON.parse(text) : undefined
    return Array.isArray(list) ? list.length : text.split('\n').filter((line) => line.trim() !== '').length
  } catch {
    // Absent, or a list that was cut off: nothing was made.
    return 0
  }
}
