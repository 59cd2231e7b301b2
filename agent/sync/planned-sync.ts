import type { SyncSpec } from '../../shared/manifest/schema.ts'

/** An rclone backend with its options as the user gave them, secrets filled in: kept in memory only. */
export type PlannedRemote = {
  readonly name: string
  readonly type: string
  readonly options: Readonly<Record<string, string>>
}

/** One sync with everything resolved. */
export type PlannedSync = {
  readonly spec: SyncSpec
  /** null: `to` is a path on this box. */
  readonly remote: PlannedRemote | null
  /** The path on the remote, without its name; absolute where `remote` is null. */
  readonly to: string
}

/** The destination in words, without credentials: `b2:bucket/run-1` or a local path. */
export const destinationOf = (planned: PlannedSync): string =>
  planned.remote ? `${planned.remote.name}:${planned.to}` : planned.to
