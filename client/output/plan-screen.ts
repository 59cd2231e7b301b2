import type { PlanRecord } from '../../shared/contract/records.ts'
import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { Output } from './output.ts'
import { orDash } from './rows.ts'
import { tableLines } from './table.ts'
import { bold, dim, yellow } from './text.ts'

/** What a plan would change, what that costs, and what could not be checked. */
export const showPlan = ({ problems, changes, estimate, unchecked }: PlanRecord, output: Output): void => {
  const { downloads, python, processes, later, left } = changes
  const changed = [...downloads, ...processes].some((change) => change.action !== 'keep') || python.length > 0
  // Where the plan is refused nothing changes either, and to say so would sound as if all were well.
  const isRefused = problems.some(({ severity }) => severity === 'error')
  if (!changed && !isRefused) output.line('nothing would change')
  const tables = [
    tableLines(
      ['DOWNLOAD', 'ACTION', 'SIZE', 'SOURCE'],
      downloads.map((file) => [file.to, actionText(file.action), orUnknown(file.sizeBytes), file.source]),
    ),
    tableLines(
      ['PACKAGE', 'FROM', 'TO'],
      python.map((change) => [change.name, orDash(change.from), change.to]),
    ),
    tableLines(
      ['PROCESS', 'ACTION'],
      processes.map((change) => [change.name, actionText(change.action)]),
    ),
    tableLines(
      ['FETCHED BY A PROGRAM LATER', 'TO FETCH IT NOW, ADD TO DOWNLOADS'],
      later.map(({ source, download }) => [source, download]),
    ),
    tableLines(
      ['NOT IN THE MANIFEST, STAYS', 'SIZE OR VERSION'],
      [
        ...left.files.map(({ path, sizeBytes }) => [path, orUnknown(sizeBytes)]),
        ...left.packages.map(({ name, version }) => [name, version]),
      ],
    ),
  ]
  tables.filter((lines) => lines.length > 0).forEach((lines) => output.lines([...lines, []]))
  if (changed) output.line(dim('estimate  '), estimateText(estimate))
  unchecked.forEach((what) => output.line(yellow('unchecked '), what))
}

const orUnknown = (sizeBytes: number | null) => (sizeBytes === null ? 'unknown' : formatSize(sizeBytes))

const actionText = (action: string) => (action === 'keep' ? dim(action) : bold(action))

const estimateText = ({ downloadBytes, seconds, usd }: PlanRecord['estimate']): string =>
  [
    downloadBytes === null ? 'an unknown amount to download' : `${formatSize(downloadBytes)} to download`,
    ...(seconds === null ? [] : [formatDuration(seconds * 1000)]),
    ...(usd === null ? [] : [`$${usd.toFixed(2)}`]),
  ].join(', ')
