import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import type { AbiLayout } from './abi/abi-layout.ts'
import { readDistRecord } from './dist-record.ts'
import type { Dist, PythonFacts } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'

type Stack = {
  readonly base: PythonFacts
  /** What the overlay on it holds and sees; the base itself where there is none. */
  readonly top: PythonFacts
  /** The agent's environment. */
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** The environment of an overlay and its base as it is now. */
export const layoutOf = async ({ base, top, environment }: Stack): Promise<AbiLayout> => {
  const shadowed = base.dists.filter((dist) => top.dists.every((other) => other.metadata !== dist.metadata))
  return {
    interpreter: realpathSync(top.interpreter),
    sites: [...new Set([...top.sites, ...base.sites])],
    hidden: await filesOf(shadowed),
    libraryPath: environment['LD_LIBRARY_PATH'] ?? '',
    numpy: versionOf(top.dists, 'numpy'),
    suffixes: base.suffixes,
    withGpuCode: [],
  }
}

/** The same environment with staged objects over it, and without the dists that they replace. */
export const withStaged = async (
  layout: AbiLayout,
  staged: {
    readonly folder: string
    readonly replaced: readonly Dist[]
    readonly numpy: string | undefined
  },
): Promise<AbiLayout> => ({
  ...layout,
  sites: [staged.folder, ...layout.sites],
  hidden: [...layout.hidden, ...(await filesOf(staged.replaced))],
  numpy: staged.numpy ?? layout.numpy,
  withGpuCode: [staged.folder],
})

/** The version of a dist, by its canonical name; null where it is not there. */
export const versionOf = (dists: readonly Dist[], name: string): string | null =>
  dists.find((dist) => canonicalName(dist.name) === name)?.version ?? null

/** Absolute paths of the files that dists own. */
const filesOf = async (dists: readonly Dist[]): Promise<string[]> => {
  const files: string[] = []
  for (const dist of dists)
    for (const { path } of await readDistRecord(dist)) files.push(join(dist.location, path))
  return files
}
