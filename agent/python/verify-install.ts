import { readdir } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { PythonContext } from './context.ts'
import { damageOf } from './dist-record.ts'
import type { PythonFacts } from './inspect-python.ts'
import { canonicalName, inspectPython } from './inspect-python.ts'
import type { OverlayPaths } from './overlay.ts'
import type { PlannedDist } from './resolution.ts'

/**
 * pip's word is not enough: every dist once, in its version, every file with the size that its RECORD says.
 * @throws AgentError install_failed
 */
export const verifyInstall = async (
  dists: readonly PlannedDist[],
  context: PythonContext & { readonly paths: OverlayPaths },
): Promise<PythonFacts> => {
  const { paths } = context
  const failed = (what: string) => new AgentError('install_failed', `after the install ${what}`)
  const left = (await readdir(paths.site)).find((name) => name.startsWith('~'))
  if (left !== undefined) throw failed(`${left} was left in ${paths.site}`)
  const after = await inspectPython(paths.python, context)
  for (const planned of dists) {
    const dist = after.dists.find((one) => canonicalName(one.name) === planned.name)
    if (dist?.location !== paths.site || dist.version !== planned.version)
      throw failed(`${planned.name} is ${dist?.version ?? 'not there'} instead of ${planned.version}`)
    const damage = await damageOf(dist)
    if (damage !== undefined) throw failed(damage)
  }
  return after
}

/**
 * Compares two fingerprints of the image's packages.
 * @throws AgentError install_failed, with the files that changed
 */
export const refuseBaseDrift = (
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): void => {
  const changed = [...before].filter(([path, mark]) => after.get(path) !== mark).map(([path]) => path)
  if (changed.length > 0)
    throw new AgentError(
      'install_failed',
      `files of the base environment changed during the install: ${changed.slice(0, 5).join(', ')}`,
      { hint: 'Something else writes into the image’s own Python; find it, then apply again.' },
    )
}
