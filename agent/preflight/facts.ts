import type { Problem } from '../../shared/contract/errors.ts'
import type { Snapshot } from '../../shared/sources/plan-snapshot.ts'
import type { Gpu } from '../platform/gpu.ts'

/** What a source answered when it was asked: enough to prove mirrors equal and to know the size. */
export type SourceFact =
  | { readonly state: 'answers'; readonly sizeBytes: number | null; readonly sha256: string | null }
  | { readonly state: 'refused'; readonly problem: Pick<Problem, 'code' | 'message' | 'hint'> }

/** What a repository answered when it was listed: its files at one commit, and whether they are here already. */
export type SnapshotFact =
  | { readonly state: 'answers'; readonly snapshot: Snapshot; readonly isProven: boolean }
  | { readonly state: 'refused'; readonly problem: Pick<Problem, 'code' | 'message' | 'hint'> }

export type DiskFact = {
  readonly device: number
  readonly freeBytes: number
  readonly totalBytes: number
  /** One of the paths that lie on it, for messages. */
  readonly path: string
}

/** Everything about the box and its sources that the decision looks at. Gathered once, read-only. */
export type Facts = {
  readonly secrets: ReadonlySet<string>
  readonly sources: ReadonlyMap<string, SourceFact>
  /** By the manifest's words for the repository. */
  readonly snapshots: ReadonlyMap<string, SnapshotFact>
  /** Destinations that were verified before and have not changed since. */
  readonly proven: ReadonlySet<string>
  /** Bytes already on disk of a destination's unfinished transfer. */
  readonly partialBytes: ReadonlyMap<string, number>
  readonly disks: ReadonlyMap<string, DiskFact>
  readonly gpus: readonly Gpu[] | null
  readonly folders: ReadonlySet<string>
  readonly programs: ReadonlyMap<string, string | undefined>
  readonly portsInUse: ReadonlySet<number>
}
