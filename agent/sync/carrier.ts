import type { HashAlgorithm } from './file-hashes.ts'

/** What a remote says of one file; a hash is missing where the remote keeps none. */
export type RemoteFile = {
  readonly sizeBytes: number
  readonly hashes: Readonly<Partial<Record<HashAlgorithm, string>>>
}

/** A file to be stored: read from `from`, written to `path` below the destination. */
export type PutFile = { readonly from: string; readonly path: string; readonly sizeBytes: number }

export type CarryContext = { readonly signal: AbortSignal; readonly onProgress?: (bytesDone: number) => void }

export type PutContext = CarryContext & {
  /** These arrive after all others. */
  readonly last: ReadonlySet<string>
  /** None of the files is there yet, as a listing showed: the carrier need not look again. */
  readonly isNew: boolean
}

/**
 * One destination (`to` of a sync). Paths are relative to it. Nothing here deletes, and what a call reports is not
 * taken for stored: store-units.ts lists and compares.
 */
export type Carrier = {
  /** The files that exist: of `paths`, with hashes where there are some; or everything, by size alone. */
  list(
    paths: readonly string[] | 'everything',
    context: CarryContext,
  ): Promise<ReadonlyMap<string, RemoteFile>>
  /** Writes files, over what is there. */
  put(files: readonly PutFile[], context: PutContext): Promise<void>
  /** Copies files of the destination to other names in it. */
  keep(pairs: readonly { readonly from: string; readonly to: string }[], context: CarryContext): Promise<void>
  /** The texts of small files, of those that exist. */
  read(paths: readonly string[], context: CarryContext): Promise<ReadonlyMap<string, string>>
  /** The hash that this destination names for its files; undefined: none, as far as its listings have shown. */
  namedHash(): HashAlgorithm | undefined
}
