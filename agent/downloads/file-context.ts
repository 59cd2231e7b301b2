import type { Report } from '../../shared/contract/events.ts'
import type { Fetcher } from '../../shared/sources/fetcher.ts'
import type { ResolveDeps } from '../../shared/sources/resolved-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { Hasher } from './hasher.ts'
import type { FileRow } from './file-row.ts'
import type { Pace } from './pace.ts'
import type { TransferLimits } from './transfer-job.ts'
import type { VerifiedFiles } from './verified-files.ts'

/** What every step of fetching one file works with. */
export type FileContext = {
  readonly resolve: ResolveDeps
  readonly fetch: Fetcher
  readonly verified: VerifiedFiles
  readonly hasher: Hasher
  /** How many connections a host is worth. */
  readonly paceOf: (host: string) => Pace
  readonly clock: Clock
  readonly report: Report
  readonly limits: TransferLimits
  readonly bandwidth: Bandwidth | null
  readonly row: FileRow
  /** A file that was brought a moment ago and should have the same content; its bytes are copied, and nothing is fetched. */
  readonly twin: string | undefined
  readonly signal: AbortSignal
}
