import type { BudgetRow } from '../../shared/contract/records.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import { stateText, timeText } from './rows.ts'
import type { Line } from './table.ts'
import { dim } from './text.ts'

/** More reasons than this are told by their number. */
const MOST_REASONS = 3

/** One line of `status`: money, time, and what is going to happen. */
export const budgetLine = (row: BudgetRow): Line => [
  stateText(row.state),
  ` ${[spent(row), used(row), stops(row)].filter((part) => part !== '').join(', ')}`,
]

/** The whole budget, a fact a line. */
export const budgetLines = (row: BudgetRow): readonly Line[] => [
  fact('state', stateText(row.state)),
  fact('spent', spent(row)),
  fact('price', row.rateUsdPerHour === null ? 'unknown' : `$${priceText(row.rateUsdPerHour)} an hour`),
  fact('time', used(row)),
  fact('at limit', atLimit(row)),
  ...(row.idle === null ? [fact('idle', 'is not looked for')] : idleFacts(row.idle)),
]

const fact = (name: string, value: Line[number]): Line => [dim(name.padEnd(10)), value]

const spent = ({ spentUsd, limitUsd }: BudgetRow): string => {
  const money = spentUsd === null ? 'cost unknown' : `$${spentUsd.toFixed(2)}`
  return `${money}${limitUsd === null ? ', no limit' : ` of $${limitUsd.toFixed(2)}`}`
}

const used = ({ hoursUsed, limitHours }: BudgetRow): string =>
  `${hoursUsed.toFixed(1)} h${limitHours === null ? '' : ` of ${round(limitHours)} h`}`

const stops = ({ stopAt, state }: BudgetRow): string =>
  stopAt === null ? '' : `${state === 'stopping' ? 'stops' : 'would stop'} ${timeText(stopAt)}`

const atLimit = (row: BudgetRow): string => {
  if (row.onLimit === null) return 'nothing: there is no budget'
  if (row.limitUsd === null && row.limitHours === null && row.idle === null) return 'nothing: no limit'
  if (row.onLimit === 'notify') return 'somebody is told; the box runs on'
  const when = stops(row)
  return `the box is stopped${when === '' ? '' : `; it ${when}`}`
}

const idleFacts = ({ afterSeconds, idleSeconds, busy }: NonNullable<BudgetRow['idle']>): readonly Line[] => {
  const after = `, ${formatDuration(afterSeconds * 1000)} count as a limit`
  if (busy.length === 0) return [fact('idle', `for ${formatDuration(idleSeconds * 1000)}${after}`)]
  const more = busy.length > MOST_REASONS ? [`and ${busy.length - MOST_REASONS} more reasons`] : []
  return [
    fact('idle', `no${after}`),
    ...[...busy.slice(0, MOST_REASONS), ...more].map((reason) => fact('', reason)),
  ]
}

const round = (hours: number): string => String(Math.round(hours * 100) / 100)

/** Cents as people write them, and the fractions of a cent that storage costs. */
const priceText = (usd: number): string =>
  usd.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 4 })
