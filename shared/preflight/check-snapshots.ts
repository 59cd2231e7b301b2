import { AgentError, problemFrom } from '../contract/errors.ts'
import type { SnapshotDownload } from '../manifest/schema.ts'
import type { Snapshot } from '../sources/plan-snapshot.ts'
import type { CausedProblem } from './caused-problem.ts'
import type { SourcesContext } from './check-sources.ts'
import type { SnapshotFact } from './source-facts.ts'

/** What is wrong with a repository that is wanted whole; `snapshot` is null where it cannot be had. */
export const checkSnapshot = (
  request: SnapshotDownload,
  context: Pick<SourcesContext, 'causeOf'> & { readonly snapshots: ReadonlyMap<string, SnapshotFact> },
): { readonly snapshot: Snapshot | null; readonly problems: readonly CausedProblem[] } => {
  const severity = request.optional ? 'warning' : 'error'
  const subject = request.snapshot
  const fact = context.snapshots.get(subject)
  if (fact === undefined) return { snapshot: null, problems: [] }
  if (fact.state === 'refused') {
    const cause = context.causeOf(fact.problem, subject)
    return { snapshot: null, problems: [{ ...fact.problem, subject, severity, cause }] }
  }
  const [pickle, ...pickles] = request.allow_pickle ? [] : fact.snapshot.pickles
  if (pickle === undefined) return { snapshot: fact.snapshot, problems: [] }
  const more = pickles.length > 0 ? ` and ${pickles.length} more` : ''
  const refused = new AgentError(
    'pickle_refused',
    `${subject} holds ${pickle}${more}, which can run code when it is loaded`,
    { hint: 'Leave them out with exclude, or set allow_pickle: true.' },
  )
  return { snapshot: null, problems: [problemFrom(refused, subject, severity)] }
}
