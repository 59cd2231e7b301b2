import type { Problem } from '../../shared/contract/errors.ts'
import type { Facts } from '../preflight/facts.ts'
import type { WantedSnapshot } from '../preflight/locate-files.ts'
import type { Rooms } from './rooms.ts'

/**
 * A branch is asked of its hub at every plan. Where the hub cannot say (a boot without network, a token that ran out),
 * the commit that the same request brought earlier is used, when every file of it is still there and proven: a box
 * that has everything must come up again. Never silently, for the branch may have moved.
 */
export const recallSnapshots = async (
  wanted: readonly WantedSnapshot[],
  { facts, rooms }: { readonly facts: Facts; readonly rooms: Pick<Rooms, 'downloads'> },
): Promise<{ readonly facts: Facts; readonly problems: readonly Problem[] }> => {
  const snapshots = new Map(facts.snapshots)
  const provenSnapshots = new Set(facts.provenSnapshots)
  const problems: Problem[] = []
  for (const { request, hfHome } of wanted) {
    const fact = snapshots.get(request.snapshot)
    if (fact?.state !== 'refused') continue
    const { snapshot: name, include, exclude } = request
    const kept = await rooms.downloads.recallSnapshot({ snapshot: name, include, exclude }, hfHome)
    if (kept === undefined) continue
    const { commit, revision } = kept.snapshot
    snapshots.set(name, { state: 'answers', snapshot: kept.snapshot })
    provenSnapshots.add(name)
    // A commit stays what it is: there was nothing to ask.
    if (revision === commit) continue
    problems.push({
      ...fact.problem,
      severity: 'warning',
      subject: name,
      message: `${fact.problem.message}; its files at commit ${commit.slice(0, 12)} are here, verified at ${kept.provenAt}, and are used`,
    })
  }
  return { facts: { ...facts, snapshots, provenSnapshots }, problems }
}
