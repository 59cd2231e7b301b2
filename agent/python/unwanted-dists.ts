import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../platform/files.ts'
import type { Dist } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'

/** A package in an overlay, by its canonical name. */
export type OverlayDist = { readonly name: string; readonly version: string }

/** What a virtual environment brings for itself. */
const TOOLS: readonly string[] = ['pip', 'setuptools', 'wheel']

/**
 * The packages of an overlay that nothing asks for any more: not the wishes, and nothing that those require. Markers and
 * extras are not weighed, so a package is called unwanted only when no reading of the metadata wants it. Pure.
 * @param wanted canonical names
 */
export const unwantedDists = (
  dists: readonly Dist[],
  { root, wanted }: { readonly root: string; readonly wanted: readonly string[] },
): readonly OverlayDist[] => {
  const requires = new Map(dists.map((dist) => [canonicalName(dist.name), dist.requires]))
  const reached = new Set([...wanted, ...TOOLS])
  // A set hands out what is added to it while it is walked.
  for (const name of reached)
    for (const requirement of requires.get(name) ?? []) {
      const required = /^[\w.-]+/.exec(requirement.trim())?.[0]
      if (required !== undefined) reached.add(canonicalName(required))
    }
  return dists
    .filter((dist) => dist.location.startsWith(`${root}/`) && !reached.has(canonicalName(dist.name)))
    .map((dist) => ({ name: canonicalName(dist.name), version: dist.version }))
}

/** The packages of every overlay, for a manifest that wants none. Read from the names of folders; no Python is started. */
export const allOverlayDists = async (folder: string): Promise<readonly OverlayDist[]> => {
  const sites = await Promise.all(
    (await namesIn(folder)).map((name) => sitesOf(join(folder, name, 'env', 'lib'))),
  )
  const names = await Promise.all(sites.flat().map(namesIn))
  return names.flat().flatMap((name) => {
    const [, dist, version] = /^(.+)-([^-]+)\.dist-info$/.exec(name) ?? []
    if (dist === undefined || version === undefined || TOOLS.includes(canonicalName(dist))) return []
    return [{ name: canonicalName(dist), version }]
  })
}

const sitesOf = async (lib: string): Promise<readonly string[]> =>
  (await namesIn(lib)).map((name) => join(lib, name, 'site-packages'))

/** Empty where there is no such folder; one that cannot be read is not taken for empty. */
const namesIn = async (folder: string): Promise<readonly string[]> => {
  try {
    return await readdir(folder)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw error
  }
}
