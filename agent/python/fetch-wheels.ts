import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { PythonContext } from './context.ts'
import { isCompiled, readDistRecord } from './dist-record.ts'
import type { Dist } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import { installError, runPip } from './pip.ts'
import type { PipSettings } from './pip.ts'
import { readWheelRecord } from './read-wheel.ts'
import type { PlannedDist } from './resolve.ts'

type FetchContext = PythonContext & {
  readonly python: string
  readonly settings: PipSettings
  /** Folder for the wheels; emptied first. */
  readonly to: string
}

/**
 * Brings the planned wheels to a folder and checks each against the hash of the plan. Changes no environment.
 * @throws AgentError install_failed, hash_mismatch, disk_full
 */
export const fetchWheels = async (dists: readonly PlannedDist[], context: FetchContext): Promise<void> => {
  const { to } = context
  await rm(to, { recursive: true, force: true })
  await mkdir(to, { recursive: true })
  await writeFile(join(to, 'pins.txt'), dists.map((dist) => `${dist.name}===${dist.version}\n`).join(''))
  const result = await runPip(
    context.python,
    [
      'download',
      '--no-deps',
      '--only-binary=:all:',
      '--quiet',
      '--dest',
      to,
      '--requirement',
      join(to, 'pins.txt'),
    ],
    context,
  )
  if (result.exitCode !== 0) throw installError('the wheels cannot be fetched', result)
  for (const wheel of await listWheels(to)) {
    const dist = dists.find((one) => one.name === wheel.name)
    if (dist?.sha256 == null) continue
    const actual = await sha256Of(wheel.path)
    if (actual !== dist.sha256)
      throw new AgentError(
        'hash_mismatch',
        `the wheel of ${dist.name} ${dist.version} has the sha256 ${actual}, the index said ${dist.sha256}`,
        { hint: 'The index changed in between; apply again.' },
      )
  }
}

/**
 * Refuses wheels that would write over, or hide, files of another dist: the import then gives the other one, and
 * removing one of them later breaks both. Files with equal content do no harm.
 * @throws AgentError install_blocked, naming both dists
 */
export const refuseClobbering = async (
  dists: readonly PlannedDist[],
  context: { readonly wheels: string; readonly installed: readonly Dist[] },
): Promise<void> => {
  const replaced = new Set(dists.map((dist) => dist.name))
  const owners = new Map<string, { readonly dist: string; readonly hash: string }>()
  const own = async (
    name: string,
    entries: ReturnType<typeof readDistRecord>,
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
        'install_blocked',
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

const listWheels = async (folder: string): Promise<{ readonly name: string; readonly path: string }[]> =>
  (await readdir(folder))
    .filter((file) => file.endsWith('.whl'))
    .map((file) => ({ name: canonicalName(file.split('-')[0] ?? ''), path: join(folder, file) }))

const sha256Of = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
