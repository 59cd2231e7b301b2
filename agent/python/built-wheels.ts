import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Python } from '../../shared/manifest/schema.ts'
import { atomicWrite } from '../platform/files.ts'
import type { Dist } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'

/** An entry of the manifest's `install` that is built from a repository. */
export type GitInstall = Extract<Python['install'][number], { git: string }>

/** A wheel that was built from a repository, waiting to be installed. */
export type BuiltWheel = {
  readonly git: string
  readonly ref: string
  readonly noDeps: boolean
  /** Canonical. */
  readonly name: string
  readonly version: string
  readonly sha256: string
  readonly requires: readonly string[]
  /** The folder it lies in. */
  readonly folder: string
}

type KnownBuild = Pick<BuiltWheel, 'git' | 'ref' | 'name' | 'version'>

/** It lies in the overlay, so that taking an install back takes its record back too. */
const recordOf = (env: string): string => join(env, 'gpu-agent-builds.json')

/** The entries that are not in the overlay as they were built. */
export const missingBuilds = (
  builds: readonly GitInstall[],
  overlay: { readonly env: string; readonly dists: readonly Dist[] },
): readonly GitInstall[] => {
  const known = readRecord(overlay.env)
  return builds.filter(({ git, ref }) => {
    const build = known.find((one) => one.git === git && one.ref === ref)
    return !overlay.dists.some(
      (dist) =>
        dist.location.startsWith(`${overlay.env}/`) &&
        canonicalName(dist.name) === build?.name &&
        dist.version === build.version,
    )
  })
}

/** The names of the dists that these entries were built as, as far as they were built. */
export const builtNames = (builds: readonly GitInstall[], env: string): readonly string[] =>
  readRecord(env)
    .filter((one) => builds.some(({ git, ref }) => git === one.git && ref === one.ref))
    .map(({ name }) => name)

/** Remembers what the overlay's dists were built from. */
export const recordBuilds = (env: string, built: readonly BuiltWheel[]): void => {
  const fresh = built.map(({ git, ref, name, version }) => ({ git, ref, name, version }))
  const others = readRecord(env).filter((one) => fresh.every(({ name }) => name !== one.name))
  atomicWrite(recordOf(env), JSON.stringify([...others, ...fresh]))
}

const readRecord = (env: string): KnownBuild[] => {
  try {
    return JSON.parse(readFileSync(recordOf(env), 'utf8')) as KnownBuild[]
  } catch {
    // None was built, or the record is damaged: building again does no harm.
    return []
  }
}
