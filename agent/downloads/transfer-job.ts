import type { Fetcher } from '../../shared/sources/fetcher.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { DataAddress } from './data-address.ts'
import type { Pace } from './pace.ts'
import type { PartFile } from './part-file.ts'
import type { SlowRules } from './slow-rules.ts'
import type { SourceRules } from './source-rules.ts'

/** How much one file may ask of the network. */
export type TransferLimits = {
  /** Most connections for one file. */
  readonly connections: number
  /** Most bytes that one request asks for. */
  readonly segmentBytes: number
  readonly recordEveryMs: number
  readonly slow: SlowRules
}

/** One file, one source, and everything its connections share. */
export type TransferJob = {
  /** The destination's name, by which the content is judged. */
  readonly name: string
  readonly source: ResolvedSource
  readonly address: DataAddress
  readonly part: PartFile
  readonly limits: TransferLimits
  /** Null where all may take as much as they get. */
  readonly bandwidth: Bandwidth | null
  readonly fetch: Fetcher
  readonly rules: SourceRules
  readonly clock: Clock
  /** How many connections its host is worth. */
  readonly pace: Pace
  /** Called for every piece that was written. */
  readonly onBytes: (bytes: number) => void
  readonly onRetry: () => void
  /** All bytes are to be fetched again. */
  readonly onRestart: () => void
  readonly onConnections: (open: number) => void
  /** This source takes no further part, another one goes on. */
  readonly onSourceFailed: (error: unknown) => void
}
