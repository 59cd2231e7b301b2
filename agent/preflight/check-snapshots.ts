import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Snapshot } from '../../shared/sources/plan-snapshot.ts'
import type { Facts } from './facts.ts'
import type { WantedSnapshot } from './locate-files.ts'

/** A repository that answered: its files at one commit, where they go, and whether they are there. */
export type FoundSnapshot = {
  readonly snapshot: Snapshot
  readonly hfHome: string
  readonly optional: boolean
  readonly allowPickle: boolean
  readonly isProven: boolean
}

/** Which repositories can be had, and what is wrong with the others. */
export const checkSnapshots = (
  wanted: readonly WantedSnapshot[],
  facts: Pick<Facts, 'snapshots'>,
): { readonly snapshots: readonly FoundSnapshot[]; readonly problems: readonly Problem[] } => {
  const snapshots: FoundSnapshot[] = []
  const problems: Problem[] = []
  for (const { request, hfHome } of wanted) {
    const severity = request.optional ? 'warning' : 'error'
    const fact = facts.snapshots.get(request.snapshot)
    if (fact === undefined) continue
    if (fact.state === 'refused') {
      problems.push({ ...fact.problem, subject: request.snapshot, severity })
      continue
    }
    const [pickle, ...pickles] = request.allow_pickle ? [] : fact.snapshot.pickles
    if (pickle !== undefined) {
      const more = pickles.length > 0 ? ` and ${pickles.length} more` : ''
      const refused = new AgentError(
        'pickle_refused',
        `${request.snapshot} holds ${pickle}${more}, which can run code when it is loaded`,
        { hint: 'Leave them out with exclude, or set allow_pickle: true.' },
      )
      problems.push(problemFrom(refused, request.snapshot, severity))
      continue
    }
    snapshots.push({
      snapshot: fact.snapshot,
      hfHome,
      optional: request.optional,
      allowPickle: request.allow_pickle,
      isProven: fact.isProven,
    })
  }
  return { snapshots, problems }
}
