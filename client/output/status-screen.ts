import type { StatusRecord } from '../../shared/contract/records.ts'
import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { PullRow } from '../pull/pulls-file.ts'
import { budgetLine } from './budget-lines.ts'
import { problemLines } from './problems.ts'
import { amount } from './progress.ts'
import type { Table } from './rows.ts'
import { downloadTable, processTable, stateText, syncTable, timeText } from './rows.ts'
import type { Line } from './table.ts'
import { tableLines } from './table.ts'
import { bold, dim, green, red } from './text.ts'

/** The whole box on one screen: one word first, then the facts, then what is wrong and what to do. */
export const statusLines = (record: StatusRecord, pulls: readonly PullRow[]): Line[] => [
  [record.healthy ? green('healthy') : red('not healthy'), `  ${record.host.hostname}`],
  ...facts(record),
  ...section(downloadTable(record.downloads)),
  ...section(processTable(record.processes)),
  ...section(syncTable(record.sync)),
  ...section(pullTable(pulls)),
  ...(record.problems.length === 0 ? [] : [[], ...problemLines(record.problems)]),
]

const facts = ({ agent, host, manifest, run, budget }: StatusRecord): Line[] => [
  fact('agent', `${agent.version}, pid ${agent.pid}, since ${timeText(agent.startedAt)}, home ${agent.home}`),
  ...(host.gpus ?? []).map((gpu) =>
    fact(
      'gpu',
      `${gpu.name}, ${formatSize(gpu.memoryUsedBytes)} of ${formatSize(gpu.memoryTotalBytes)} used` +
        `${gpu.utilizationPercent === null ? '' : `, ${gpu.utilizationPercent} % busy`}, driver ${gpu.driver}`,
    ),
  ),
  ...(host.gpus === null ? [fact('gpu', 'unknown')] : []),
  fact('memory', `${formatSize(host.memory.freeBytes)} of ${formatSize(host.memory.totalBytes)} free`),
  ...host.disks.map((disk) =>
    fact('disk', `${disk.path}: ${formatSize(disk.freeBytes)} of ${formatSize(disk.totalBytes)} free`),
  ),
  manifest === null
    ? fact('manifest', 'none yet: agentctl apply MANIFEST')
    : fact('manifest', `${manifest.name}, applied ${timeText(manifest.appliedAt)}`),
  ...(run === null ? [] : [runFact(run)]),
  ...(budget === null ? [] : [budgetFact(budget)]),
]

const fact = (name: string, value: string): Line => [dim(name.padEnd(10)), value]

const runFact = (run: NonNullable<StatusRecord['run']>): Line => [
  dim('run'.padEnd(10)),
  stateText(run.state),
  ` ${run.id}, started ${timeText(run.startedAt)}`,
  run.endedAt === null
    ? `, ${amount(run.progress) || 'nothing to fetch'}`
    : `, took ${formatDuration(Date.parse(run.endedAt) - Date.parse(run.startedAt))}`,
]

const budgetFact = (budget: NonNullable<StatusRecord['budget']>): Line => [
  dim('budget'.padEnd(10)),
  ...budgetLine(budget),
]

const LATE = 'late: its watch is not running, or does not get through'

/** `2026-11-21 10:00:00Z, 5 min 2 s ago`. */
const ageText = (time: string | null): string => {
  if (time === null) return 'never'
  const ageMs = Math.max(0, Date.now() - Date.parse(time))
  return `${timeText(time)}, ${formatDuration(ageMs)} ago`
}

const pullTable = (pulls: readonly PullRow[]): Table => ({
  head: ['PULL', 'TO', 'LAST SUCCESS', 'PROBLEM'],
  rows: pulls.map((pull) => [
    bold(pull.name),
    pull.to,
    ageText(pull.lastSuccessAt),
    pull.problem !== null ? red(pull.problem.message) : pull.late ? red(LATE) : '-',
  ]),
})

const section = (table: Table): Line[] => {
  const lines = tableLines(table.head, table.rows)
  return lines.length === 0 ? [] : [[], ...lines]
}
