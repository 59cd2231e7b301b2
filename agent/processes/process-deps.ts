import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { ReadGpuLoad } from './kinds/watch-stall.ts'
import type { ProcessStore } from './process-store.ts'

/** What one process needs to live. */
export type ProcessDeps = {
  /** The process's own folder: its job's records and its output. */
  readonly folder: string
  readonly runFolder: string
  readonly shimFile: string
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  readonly random: () => number
  /** A problem quotes the process's output, which may hold secrets. */
  readonly redact: (text: string) => string
  readonly store: ProcessStore
  readonly readGpuLoad: ReadGpuLoad
  /** Ends with the agent; the jobs go on. */
  readonly lifetime: AbortSignal
  /** Keeps hold of work that goes on by itself, and logs its failure. */
  readonly track: (work: Promise<void>) => void
}
