import type { Problem } from '../../shared/contract/errors.ts'
import type { SourcedFile } from '../../shared/sources/sourced-file.ts'

/** One file of a plan, and where it goes. */
export type PlannedFile = SourcedFile & {
  /** Absolute destination. */
  readonly path: string
  /** The folder that `path` was joined to, in which symbolic links are refused; null when the manifest gave a path. */
  readonly root: string | null
  /** The name by which the content is judged, where the destination's says nothing. */
  readonly contentName?: string
  /** Ranges come from all sources that are proven to hold the same file, at once. */
  readonly race?: boolean
  /** Another file at the destination is an error: it is not replaced. */
  readonly keepsOther?: boolean
}

/** How a file ended. A file that is `done` may still carry a warning. */
export type FileOutcome = {
  readonly to: string
  readonly state: 'done' | 'failed'
  readonly problem: Problem | null
  readonly optional: boolean
}
