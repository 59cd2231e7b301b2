import type { StatusRecord } from '../../shared/contract/records.ts'

type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>]

/**
 * The status as Prometheus text, exposition format 0.0.4. Names end in their unit; a thing that is unknown has no
 * sample, so that an alert on its absence works.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 */
export const metricsText = (status: StatusRecord, nowMs: number): string => {
  const lines: string[] = []
  const metric = (name: string, help: string, samples: readonly Sample[]): void => {
    if (samples.length === 0) return
    lines.push(`# HELP gpu_agent_${name} ${help}`, `# TYPE gpu_agent_${name} gauge`)
    for (const [value, labels = {}] of samples) lines.push(`gpu_agent_${name}${labelText(labels)} ${value}`)
  }
  const { agent, host, run, downloads, processes, sync, budget } = status

  metric('info', 'The agent and its version.', [[1, { id: agent.id, version: agent.version }]])
  metric('healthy', '1 when nothing is wrong with the box.', [[status.healthy ? 1 : 0]])
  metric('run_state', '1 for the state that the run is in.', run ? [[1, { state: run.state }]] : [])
  metric(
    'disk_free_bytes',
    'Free bytes of a file system.',
    host.disks.map((disk) => [disk.freeBytes, { path: disk.path }]),
  )
  metric(
    'gpu_utilization_percent',
    'How busy a GPU is.',
    (host.gpus ?? []).flatMap((gpu, index): Sample[] =>
      gpu.utilizationPercent === null
        ? []
        : [[gpu.utilizationPercent, { gpu: String(index), name: gpu.name }]],
    ),
  )
  metric(
    'gpu_memory_used_bytes',
    'Used memory of a GPU.',
    (host.gpus ?? []).map((gpu, index) => [gpu.memoryUsedBytes, { gpu: String(index), name: gpu.name }]),
  )
  metric(
    'download_done_bytes',
    'Bytes of a download that are on disk.',
    downloads.map((row) => [row.bytesDone, { to: row.to, state: row.state }]),
  )
  metric(
    'process_state',
    '1 for the state that a process is in.',
    processes.map((row) => [1, { name: row.name, state: row.state }]),
  )
  metric(
    'process_restarts',
    'How often a process was started again.',
    processes.map((row) => [row.restarts, { name: row.name }]),
  )
  metric(
    'sync_last_success_age_seconds',
    'Seconds since the last success of a sync.',
    sync.flatMap((row): Sample[] =>
      row.lastSuccessAt === null
        ? []
        : [[Math.max(0, (nowMs - Date.parse(row.lastSuccessAt)) / 1000), { name: row.name }]],
    ),
  )
  metric(
    'sync_pending_bytes',
    'Bytes that are not on the remote yet.',
    sync.map((row) => [row.pendingBytes, { name: row.name }]),
  )
  metric(
    'sync_consecutive_failures',
    'Failures of a sync since its last success.',
    sync.map((row) => [row.consecutiveFailures, { name: row.name }]),
  )
  const ofBudget = (value: number | null | undefined): Sample[] =>
    typeof value === 'number' ? [[value]] : []
  metric('budget_spent_usd', 'What the box has cost.', ofBudget(budget?.spentUsd))
  metric('budget_limit_usd', 'What it may cost.', ofBudget(budget?.limitUsd))
  metric('budget_rate_usd_per_hour', 'What it costs now.', ofBudget(budget?.rateUsdPerHour))
  metric('budget_used_hours', 'How long it has run.', ofBudget(budget?.hoursUsed))
  metric('budget_limit_hours', 'How long it may run.', ofBudget(budget?.limitHours))
  metric(
    'budget_state',
    '1 for the state that the budget is in.',
    budget ? [[1, { state: budget.state }]] : [],
  )
  metric('idle_seconds', 'How long nothing has used the box.', ofBudget(budget?.idle?.idleSeconds))
  return `${lines.join('\n')}\n`
}

const labelText = (labels: Readonly<Record<string, string>>): string => {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const escapeLabel = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
