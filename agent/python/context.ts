import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import type { Log } from '../platform/log.ts'

/** What every step of this room is given. */
export type PythonContext = {
  /** `<state>/python`: overlays, their journals and snapshots live under it, one folder for each interpreter. */
  readonly folder: string
  readonly db: Database
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  /** The agent's own environment; only what clean-environment.ts lists is ever taken from it. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** False: the machine's pip.conf files are not read. */
  readonly readPipConfig?: boolean
  /** Hosts that git may reach without https. */
  readonly allowHosts?: readonly string[]
  /** Folders with wheels that were built here; pip looks into them too. */
  readonly wheelFolders?: readonly string[]
  readonly signal: AbortSignal
}
