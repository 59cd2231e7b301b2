import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { RecordEntry } from './dist-record.ts'
import { parseRecord } from './dist-record.ts'
import { canonicalName } from './inspect-python.ts'
import type { ZipArchive } from './zip-archive.ts'
import { withZip } from './zip-archive.ts'

/** A wheel file and the dist in it. */
export type WheelFile = { readonly name: string; readonly path: string }

/** The wheels in a folder. */
export const listWheels = async (folder: string): Promise<readonly WheelFile[]> =>
  (await readdir(folder))
    .filter((file) => file.endsWith('.whl'))
    .map((file) => ({ name: canonicalName(file.split('-')[0] ?? ''), path: join(folder, file) }))

/**
 * The RECORD of a wheel: every file it would write, without unpacking it.
 * @throws AgentError install_failed when it is no wheel
 */
export const readWheelRecord = (path: string): Promise<readonly RecordEntry[]> =>
  withZip(path, (zip) => recordOf(zip, path))

/**
 * The RECORD of a wheel that is open.
 * @throws AgentError install_failed when it has none
 */
export const recordOf = async (zip: ZipArchive, path: string): Promise<readonly RecordEntry[]> => {
  const entry = zip.entries.find(({ name }) => /^[^/]+\.dist-info\/RECORD$/.test(name))
  if (entry === undefined)
    throw new AgentError('install_failed', `${path} is not a wheel: it has no readable RECORD`)
  return parseRecord((await zip.read(entry)).toString('utf8'))
}

/** Where a file of a wheel lands, relative to the site folder; undefined for scripts, headers and data. */
export const sitePathOf = (name: string): string | undefined => {
  const data = /^[^/]+\.data\/([^/]+)\/(.*)$/.exec(name)
  if (data === null) return name
  return data[1] === 'platlib' || data[1] === 'purelib' ? data[2] : undefined
}
