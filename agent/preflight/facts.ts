import type { SourceFacts } from '../../shared/preflight/source-facts.ts'
import type { Gpu } from '../platform/gpu.ts'

export type DiskFact = {
  readonly device: number
  readonly freeBytes: number
  readonly totalBytes: number
  /** One of the paths that lie on it, for messages. */
  readonly path: string
}

/** Everything about the box and its sources that the decision looks at. Gathered once, read-only. */
export type Facts = SourceFacts & {
  readonly secrets: ReadonlySet<string>
  /** Destinations that were verified before and have not changed since. */
  readonly proven: ReadonlySet<string>
  /** The same of repositories, by the manifest's words. */
  readonly provenSnapshots: ReadonlySet<string>
  /** Bytes already on disk of a destination's unfinished transfer. */
  readonly partialBytes: ReadonlyMap<string, number>
  readonly disks: ReadonlyMap<string, DiskFact>
  readonly gpus: readonly Gpu[] | null
  readonly folders: ReadonlySet<string>
  readonly programs: ReadonlyMap<string, string | undefined>
  readonly portsInUse: ReadonlySet<number>
}
