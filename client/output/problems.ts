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

const OUTPUT_LINES = 12

const problemHead = (problem: Problem): Line[] => {
  const severity = problem.severity === 'error' ? red('error') : yellow('warning')
  const place = problem.at ? `${problem.at.file}:${problem.at.line}:${problem.at.column}: ` : ''
  const isTold = (subject: string): boolean =>
    subject === problem.subject || isNamed(subject, problem.message)
  const others = problem.subjects?.filter((subject) => !isTold(subject)) ?? []
  const [first = '', ...output] = problem.message.split('\n')
  // A message may end in the last output of a program: its end says what went wrong.
  const rest = output.filter((line) => line.trim() !== '').slice(-OUTPUT_LINES)
  const head: Line = [
    place,
    severity,
    ' ',
    dim(`[${problem.code}]`),
    ' ',
    bold(problem.subject),
    `: ${first}`,
  ]
  return [
    head,
    ...(others.length === 0 ? [] : [['  also: ', others.join(', ')]]),
    ...rest.map((line) => [dim('  | '), line]),
  ]
}

/** True where the message says it already, as a word of its own. */
const isNamed = (subject: string, message: string): boolean =>
  ` ${message} `.includes(` ${subject} `) || ` ${message}`.includes(` ${subject},`)

const worstFirst = (problems: readonly Problem[]): Problem[] =>
  [...problems].sort((one, other) => rank(one) - rank(other) || (one.at?.line ?? 0) - (other.at?.line ?? 0))

const rank = (problem: Problem): number => (problem.severity === 'error' ? 0 : 1)

const groupByRemedy = (problems: readonly Problem[]): Problem[][] => [
  ...Map.groupBy(problems, (problem) => `${problem.severity} ${problem.hint}`).values(),
]
