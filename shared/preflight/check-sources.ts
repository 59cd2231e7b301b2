import { AgentError, problemFrom } from '../contract/errors.ts'
import type { Problem } from '../contract/errors.ts'
import { judgeSource } from '../sources/judge-source.ts'
import { isPickleName } from '../sources/model-names.ts'
import type { SourcedFile } from '../sources/sourced-file.ts'
import type { CausedProblem } from './caused-problem.ts'
import type { SourceFact } from './source-facts.ts'

export type SourcesContext = {
  readonly sources: ReadonlyMap<string, SourceFact>
  readonly causeOf: (problem: Pick<Problem, 'code' | 'message'>, reference: string) => string | undefined
}

/**
 * Incidents A3 and A4: what the sources say of a file, its size and hash, and everything that is wrong with them. A
 * source is judged by the very rule that the download uses, so what passes here is taken there.
 */
export const checkFile = <T extends SourcedFile>(
  file: T,
  { sources, causeOf }: SourcesContext,
): { readonly file: T; readonly problems: readonly CausedProblem[] } => {
  const severity = file.optional ? 'warning' : 'error'
  if (!file.allowPickle && isPickleName(file.to)) {
    const refused = new AgentError(
      'pickle_refused',
      `${file.to} is a format that can run code when it is loaded`,
    )
    return { file, problems: [problemFrom(refused, file.to, severity)] }
  }
  const first = sources.get(file.from[0] ?? '')
  const primary = first?.state === 'answers' ? first : undefined
  const judged = file.from.flatMap((reference) => {
    const fact = sources.get(reference)
    return fact === undefined ? [] : [{ reference, ...judge(fact, { file, primary }) }]
  })
  const someServes = judged.some(({ serves }) => serves)
  const problems = judged.flatMap(({ reference, problem }): CausedProblem[] => {
    if (problem === null) return []
    const { code, message, hint } = problem
    const told = { code, hint, subject: file.to }
    // A mirror that is known to differ, or a hash that is wrong, is a mistake in the manifest whatever else serves.
    if (code === 'mirror_differs') return [{ ...told, message, severity: 'error' }]
    if (MISTAKES.includes(code)) return [{ ...told, message, severity }]
    if (someServes) {
      const other = code === 'mirror_unproven' ? '' : `; another source of ${file.to} answers`
      return [{ ...told, message: message + other, severity: 'warning' }]
    }
    return [{ ...told, message, severity, cause: causeOf(problem, reference) }]
  })
  const known = judged.find(({ serves }) => serves)?.known
  return {
    file: {
      ...file,
      sha256: file.sha256 ?? known?.sha256 ?? null,
      sizeBytes: file.sizeBytes ?? known?.sizeBytes ?? null,
    },
    problems,
  }
}

const MISTAKES: readonly Problem['code'][] = ['hash_mismatch', 'size_mismatch']

type Judgement = {
  /** True when the download would take its bytes. */
  readonly serves: boolean
  readonly known: { readonly sha256: string | null; readonly sizeBytes: number | null } | null
  readonly problem: Pick<Problem, 'code' | 'message' | 'hint'> | null
}

const judge = (
  fact: SourceFact,
  context: {
    readonly file: SourcedFile
    readonly primary: Extract<SourceFact, { state: 'answers' }> | undefined
  },
): Judgement => {
  if (fact.state === 'refused') return { serves: false, known: null, problem: fact.problem }
  try {
    const { expected, warning } = judgeSource(fact, context)
    return { serves: true, known: expected, problem: warning }
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return { serves: false, known: null, problem: error }
  }
}
