import type { DownloadRow, ProcessRow, RunRecord, SyncRow } from '../../shared/contract/records.ts'
import { formatCount, formatSize } from '../../shared/contract/units.ts'
import { amount } from './progress.ts'
import type { Text } from './text.ts'
import { cyan, green, red, yellow } from './text.ts'

/** A table: its head, and its rows in the same order. */
export type Table = { readonly head: readonly string[]; readonly rows: readonly (readonly Text[])[] }

export const processTable = (processes: readonly ProcessRow[]): Table => {
  const hasQueues = processes.some(({ queue }) => queue !== null)
  return {
    head: [
      ...['PROCESS', 'KIND', 'STATE', 'PID', 'RESTARTS', 'SINCE', 'ENDED'],
      ...(hasQueues ? ['QUEUE'] : []),
      'URL',
    ],
    rows: processes.map((row) => [
      row.name,
      row.kind,
      stateText(row.state),
      orDash(row.pid),
      String(row.restarts),
      timeText(row.startedAt),
      row.signal ?? (row.exitCode === null ? '-' : `status ${row.exitCode}`),
      ...(hasQueues ? [queueText(row.queue)] : []),
      row.url ?? '-',
    ]),
  }
}

/** `2 jobs, 9/20`: the steps are those of the job that runs. */
const queueText = (queue: ProcessRow['queue']): string => {
  if (queue === null) return '-'
  const { remaining, progress } = queue
  const jobs = remaining === 0 ? 'empty' : formatCount(remaining, 'job')
  return progress === null ? jobs : `${jobs}, ${progress.done}/${progress.total}`
}

export const downloadTable = (downloads: readonly DownloadRow[]): Table => ({
  head: ['DOWNLOAD', 'STATE', 'AMOUNT'],
  rows: downloads.map((row) => [row.to, stateText(row.state), amount(row)]),
})

export const syncTable = (syncs: readonly SyncRow[]): Table => ({
  head: ['SYNC', 'STATE', 'LAST SUCCESS', 'PENDING', 'FAILURES'],
  rows: syncs.map((row) => [
    row.name,
    stateText(row.state),
    timeText(row.lastSuccessAt),
    row.pendingFiles === 0
      ? '-'
      : `${formatCount(row.pendingFiles, 'file')}, ${formatSize(row.pendingBytes)}`,
    String(row.consecutiveFailures),
  ]),
})

/** What is not on the remote yet and why; what is under way with how far it has come. */
export const pendingTable = (syncs: readonly SyncRow[]): Table => ({
  head: ['PENDING', 'SYNC', 'STATE', 'SIZE', 'WHY'],
  rows: syncs.flatMap(({ name, pending, copying }) =>
    pending.map((unit) => [
      unit.unit,
      name,
      stateText(unit.state),
      `${formatCount(unit.files, 'file')}, ${formatSize(unit.sizeBytes)}`,
      copying?.unit === unit.unit ? amount(copying) : unit.reason,
    ]),
  ),
})

export const runTable = (runs: readonly RunRecord[]): Table => ({
  head: ['RUN', 'MANIFEST', 'STATE', 'STARTED', 'ENDED', 'PROBLEMS'],
  rows: runs.map((run) => [
    run.id,
    run.manifest.name,
    stateText(run.state),
    timeText(run.startedAt),
    timeText(run.endedAt),
    String(run.problems.length),
  ]),
})

const GOOD = new Set(['ready', 'done', 'idle', 'exited', 'ok', 'stored', 'healthy'])
const BAD = new Set(['failed', 'refused', 'crash-looping', 'unresponsive', 'lost', 'failing', 'stop-failed'])
const UNSURE = new Set([
  'degraded',
  'waiting',
  'retrying',
  'warning',
  'cancelled',
  'stopping',
  'pending',
  'incomplete',
])

/** A state in the colour of how good it is; what is under way is neutral. */
export const stateText = (state: string): Text => {
  if (GOOD.has(state)) return green(state)
  if (BAD.has(state)) return red(state)
  return UNSURE.has(state) ? yellow(state) : cyan(state)
}

/** `2026-11-21 22:23:09Z`; a dash for null. */
export const timeText = (time: string | null): string =>
  time === null ? '-' : time.replace('T', ' ').replace(/\.\d+Z$/, 'Z')

export const orDash = (value: string | number | null): string => (value === null ? '-' : String(value))
