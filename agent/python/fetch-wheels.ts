import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { PythonContext } from './context.ts'
import { lostIndex } from './pip-words.ts'
import { installError, runPip } from './pip.ts'
import type { PipSettings } from './pip.ts'
import { listWheels } from './read-wheel.ts'
import type { PlannedDist } from './resolution.ts'

type FetchContext = PythonContext & {
  readonly python: string
  readonly settings: PipSettings
  /** Folder for the wheels; emptied first. */
  readonly to: string
}

/**
 * Brings the planned wheels to a folder and checks each against the hash of the plan. Changes no environment.
 * @throws AgentError install_failed, source_unavailable, hash_mismatch, disk_full
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
  if (result.exitCode !== 0)
    throw lostIndex(result, context.settings) ?? installError('the wheels cannot be fetched', result)
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

/** The sha256 of a file, in hexadecimal digits. */
export const sha256Of = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
