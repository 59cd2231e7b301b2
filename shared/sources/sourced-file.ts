/** One file that is wanted, as far as its sources are concerned. The plan and the transfer add where it goes. */
export type SourcedFile = {
  /** The destination in the manifest's words; the name in rows, events and problems. */
  readonly to: string
  /** The primary source, then the mirrors. */
  readonly from: readonly string[]
  readonly sha256: string | null
  readonly sizeBytes: number | null
  readonly optional: boolean
  readonly allowPickle: boolean
}
