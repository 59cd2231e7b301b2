import type { PlanRecord } from '../../shared/contract/records.ts'
import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { readManifestText } from '../manifest-text.ts'
import type { Output } from '../output/output.ts'
import { orDash } from '../output/rows.ts'
import { tableLines } from '../output/table.ts'
import { bold, dim, yellow } from '../output/text.ts'

export const plan: Command = {
  name: 'plan',
  group: 'Manifests and runs',
  summary: 'every problem and every change, nothing done',
  arguments: [{ name: 'manifest', summary: 'the YAML file that says what the box should be' }],
  run: async (call) => {
    const manifest = await readManifestText(argument(call, 0))
    const api = await call.api()
    const record = await api.plan(manifest)
    const errors = record.problems.filter((problem) => problem.severity === 'error').length
    if (call.output.json) {
      call.output.document(record)
      return errors > 0 ? EXIT.refused : EXIT.done
    }
    showChanges(record, call.output)
    if (errors > 0)
      throw new AgentError(
        'plan_has_errors',
        `the plan has ${errors === 1 ? 'an error' : `${errors} errors`}`,
        {
          problems: record.problems,
        },
      )
    call.output.problems(record.problems)
    return EXIT.done
  },
}

const showChanges = ({ changes, estimate, unchecked }: PlanRecord, output: Output): void => {
  const { downloads, python, processes } = changes
  const changed = [...downloads, ...processes].some((change) => change.action !== 'keep') || python.length > 0
  if (!changed) output.line('nothing would change')
  const tables = [
    tableLines(
      ['DOWNLOAD', 'ACTION', 'SIZE', 'SOURCE'],
      downloads.map((file) => [
        file.to,
        actionText(file.action),
        file.sizeBytes === null ? 'unknown' : formatSize(file.sizeBytes),
        file.source,
      ]),
    ),
    tableLines(
      ['PACKAGE', 'FROM', 'TO'],
      python.map((change) => [change.name, orDash(change.from), change.to]),
    ),
    tableLines(
      ['PROCESS', 'ACTION'],
      processes.map((change) => [change.name, actionText(change.action)]),
    ),
  ]
  tables.filter((lines) => lines.length > 0).forEach((lines) => output.lines([...lines, []]))
  if (changed) output.line(dim('estimate  '), estimateText(estimate))
  unchecked.forEach((what) => output.line(yellow('unchecked '), what))
}

const actionText = (action: string) => (action === 'keep' ? dim(action) : bold(action))

const estimateText = ({ downloadBytes, seconds, usd }: PlanRecord['estimate']): string =>
  [
    downloadBytes === null ? 'an unknown amount to download' : `${formatSize(downloadBytes)} to download`,
    ...(seconds === null ? [] : [formatDuration(seconds * 1000)]),
    ...(usd === null ? [] : [`$${usd.toFixed(2)}`]),
  ].join(', ')
