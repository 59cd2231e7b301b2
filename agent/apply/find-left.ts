import type { PlanChanges } from '../../shared/contract/records.ts'
import type { FoundSnapshot } from '../preflight/decide.ts'
import type { WantedFile } from '../preflight/locate-files.ts'
import type { PythonPlan } from '../python/plan-python.ts'
import type { Rooms } from './rooms.ts'

/**
 * What lies on the box and is not in the manifest: files and snapshots that earlier runs and pulls brought, packages that
 * nothing asks for any more. It stays, and whoever pays for the disk is told.
 */
export const findLeft = async (
  wanted: {
    readonly files: readonly WantedFile[]
    readonly snapshots: readonly FoundSnapshot[]
    readonly python: PythonPlan | null
  },
  rooms: Pick<Rooms, 'downloads' | 'python'>,
): Promise<PlanChanges['left']> => {
  const places = new Set([
    ...wanted.files.map(({ path }) => path),
    ...wanted.snapshots.map(({ snapshot }) => snapshot.to),
  ])
  const models = await rooms.downloads.models()
  const packages = wanted.python?.left ?? (await rooms.python.packages())
  return {
    files: models
      .filter(({ path, state }) => state === 'done' && !places.has(path))
      .map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    packages: packages.map(({ name, version }) => ({ name, version })),
  }
}
