import type { RefusedFact, SourceFacts } from '../../shared/preflight/source-facts.ts'
import type { Gpu } from '../platform/gpu.ts'
import type { Limits } from './read-limits.ts'
import type { ComfyUIFacts } from './workflow-facts.ts'

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
  /** Destinations that were verified before and have not changed since, with their sizes in bytes. */
  readonly proven: ReadonlyMap<string, number>
  /** The same of repositories, by the manifest's words. */
  readonly provenSnapshots: ReadonlySet<string>
  /** Bytes already on disk of a destination's unfinished transfer. */
  readonly partialBytes: ReadonlyMap<string, number>
  readonly disks: ReadonlyMap<string, DiskFact>
  readonly gpus: readonly Gpu[] | null
  readonly folders: ReadonlySet<string>
  readonly programs: ReadonlyMap<string, string | undefined>
  readonly portsInUse: ReadonlySet<number>
  /** Destinations that cannot be written as they are: a link, a folder, a name that is too long. By path. */
  readonly refusedPlaces: ReadonlyMap<string, RefusedFact['problem']>
  /** The ComfyUIs that declare workflows, by the name of the process. */
  readonly comfyuis: ReadonlyMap<string, ComfyUIFacts>
  readonly limits: Limits
  /** How far the clock is ahead of the hubs'; null where none was asked. */
  readonly clockAheadMs: number | null
}
