import type { Problem } from '../../shared/contract/errors.ts'
import type { Line } from './table.ts'
import { bold, dim, red, yellow } from './text.ts'

/**
 * Problems for people: errors before warnings, those with the same hint together, so that what is to be done
 * stands once under everything it repairs.
 */
export const problemLines = (problems: readonly Problem[]): Line[] =>
  groupByRemedy(worstFirst(problems)).flatMap((group) => [
    ...group.flatMap(problemHead),
    ['  ', dim('try: '), group[0]?.hint ?? ''],
  ])

const problemHead = (problem: Problem): Line[] => {
  const severity = problem.severity === 'error' ? red('error') : yellow('warning')
  const place = problem.at ? `${problem.at.file}:${problem.at.line}:${problem.at.column}: ` : ''
  const others = problem.subjects?.filter((subject) => subject !== problem.subject) ?? []
  const head: Line = [
    place,
    severity,
    ' ',
    dim(`[${problem.code}]`),
    ' ',
    bold(problem.subject),
    `: ${problem.message}`,
  ]
  return others.length === 0 ? [head] : [head, ['  also: ', others.join(', ')]]
}

const worstFirst = (problems: readonly Problem[]): Problem[] =>
  [...problems].sort((one, other) => rank(one) - rank(other) || (one.at?.line ?? 0) - (other.at?.line ?? 0))

const rank = (problem: Problem): number => (problem.severity === 'error' ? 0 : 1)

const groupByRemedy = (problems: readonly Problem[]): Problem[][] => [
  ...Map.groupBy(problems, (problem) => `${problem.severity} ${problem.hint}`).values(),
]
