import type { Problem } from '../contract/errors.ts'
import type { HubKind } from '../sources/endpoints.ts'
import type { JudgedSource } from '../sources/judge-source.ts'
import type { Snapshot } from '../sources/plan-snapshot.ts'

/** Why something was refused, in the words of the error table. */
export type RefusedFact = {
  readonly state: 'refused'
  readonly problem: Pick<Problem, 'code' | 'message' | 'hint'>
}

/** What a source answered when it was asked: enough to prove mirrors equal and to know the size. */
export type SourceFact = ({ readonly state: 'answers' } & JudgedSource) | RefusedFact

/** What a repository answered when it was listed: its files at one commit. */
export type SnapshotFact = { readonly state: 'answers'; readonly snapshot: Snapshot } | RefusedFact

/** What a hub says of the token that it is going to be sent; `unknown`: it did not say, which is no refusal. */
export type TokenFact =
  | { readonly state: 'absent' | 'accepted' }
  | { readonly state: 'unknown'; readonly why: string }
  | RefusedFact

/** What a git server says of a ref; `unlisted`: a commit that no branch or tag points at, which it does not list. */
export type GitFact =
  { readonly state: 'found'; readonly commit: string } | { readonly state: 'unlisted' } | RefusedFact

/** What the hubs and the git servers say, asked once, by the manifest's own words. The same from a laptop and on a box. */
export type SourceFacts = {
  readonly sources: ReadonlyMap<string, SourceFact>
  readonly snapshots: ReadonlyMap<string, SnapshotFact>
  readonly tokens: ReadonlyMap<HubKind, TokenFact>
  /** By `keyOfRef`. */
  readonly gitRefs: ReadonlyMap<string, GitFact>
}
