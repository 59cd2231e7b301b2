import { AgentError } from '../../shared/contract/errors.ts'
import type { RecordEntry } from './dist-record.ts'
import { isCompiled, readDistRecord } from './dist-record.ts'
import type { Dist } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import { listWheels, readWheelRecord } from './read-wheel.ts'
import type { PlannedDist } from './resolution.ts'

/**
 * Refuses wheels that would write over, or hide, files of another dist: the import then gives the other one, and
 * removing one of them later breaks both. Files with equal content do no harm.
 * @throws AgentError install_clobber, naming both dists
 */
export const refuseClobbering = async (
  dists: readonly PlannedDist[],
  context: { readonly wheels: string; readonly installed: readonly Dist[] },
): Promise<void> => {
  const replaced = new Set(dists.map((dist) => dist.name))
  const owners = new Map<string, { readonly dist: string; readonly hash: string }>()
  const own = async (
    name: string,
    entries: Promise<readonly RecordEntry[]>,
  ): Promise<Map<string, number>> => {
    const collisions = new Map<string, number>()
    for (const { path, hash } of await entries) {
      if (!countsAsOwned(path)) continue
      const owner = owners.get(path)
      if (owner === undefined) owners.set(path, { dist: name, hash })
      else if (owner.dist !== name && owner.hash !== hash)
        collisions.set(owner.dist, (collisions.get(owner.dist) ?? 0) + 1)
    }
    return collisions
  }
  // What is installed may overlap already: that is how it is.
  for (const dist of context.installed)
    if (!replaced.has(canonicalName(dist.name))) await own(dist.name, readDistRecord(dist))
  for (const wheel of await listWheels(context.wheels))
    for (const [other, count] of await own(wheel.name, readWheelRecord(wheel.path)))
      throw new AgentError(
        'install_clobber',
        `${wheel.name} would overwrite ${count} ${count === 1 ? 'file' : 'files'} of ${other}`,
        { hint: `Keep one of the two: take ${wheel.name} out, or use an image without ${other}.` },
      )
}

/** Careless wheels put tests and licences beside their package; nobody imports those. */
const countsAsOwned = (path: string): boolean =>
  !path.startsWith('../') &&
  path.includes('/') &&
  !isCompiled(path) &&
  !/^(tests?|docs?|examples?)\//.test(path)
