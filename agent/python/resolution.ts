import type { PythonContext } from './context.ts'
import type { PipSettings } from './pip.ts'
import type { Uv } from './uv.ts'

/** One dist that would be installed. */
export type PlannedDist = {
  /** Canonical. */
  readonly name: string
  readonly version: string
  /** Of the wheel, where the index or the file itself says it. */
  readonly sha256: string | null
  /** Of the wheel, packed; null where it is not known. */
  readonly sizeBytes: number | null
  /** Where the resolver found the wheel; null where it does not tell. May hold an index's password: never shown. */
  readonly url: string | null
  /** Null where the resolver does not tell. */
  readonly requires: readonly string[] | null
}

export type Resolution =
  | { readonly state: 'resolved'; readonly dists: readonly PlannedDist[] }
  /** What pip said, line by line. */
  | { readonly state: 'refused'; readonly said: readonly string[] }

export type ResolveContext = PythonContext & {
  readonly settings: PipSettings
  /** Null where there is none, or pip is to answer. */
  readonly uv: Uv | null
  readonly scratch: { readonly python: string; readonly folder: string }
}

/** The files that a resolver reads. */
export type ResolveFiles = { readonly requests: string; readonly constraints: string }
