import type { Problem } from '../../shared/contract/errors.ts'
import type { PlanChanges } from '../../shared/contract/records.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { checkGpu, checkProcesses, checkPrograms, checkSecrets } from './check-box.ts'
import { checkDisks } from './check-disks.ts'
import { checkAccess, checkSources } from './check-sources.ts'
import { checkSupport } from './check-support.ts'
import type { Facts } from './facts.ts'
import type { WantedFile } from './locate-files.ts'

/** What is known before anything is done: every problem at once, and the files as the sources describe them. */
export type Decision = {
  readonly files: readonly WantedFile[]
  readonly problems: readonly Problem[]
  readonly downloads: PlanChanges['downloads']
  /** Bytes still to fetch; null when a size is not published. */
  readonly downloadBytes: number | null
}

/** The decision is a pure function: the same manifest and facts give the same plan. */
export const decide = (
  wanted: {
    readonly manifest: Manifest
    readonly files: readonly WantedFile[]
    readonly running: ReadonlySet<string>
    /** Names of secrets and variables without a value → the things that need them. */
    readonly missing: ReadonlyMap<string, readonly string[]>
  },
  facts: Facts,
): Decision => {
  const { manifest } = wanted
  const sources = checkSources(wanted.files, facts)
  const problems = [
    ...checkSecrets(manifest, facts, wanted.missing),
    ...checkGpu(manifest, facts),
    ...checkPrograms(manifest, facts),
    ...checkProcesses(manifest, facts, wanted.running),
    ...sources.problems,
    ...checkAccess(manifest.requires.access, facts),
    ...checkDisks(sources.files, facts, {
      path: manifest.models_root ?? '/',
      bytes: manifest.requires.disk_free ?? 0,
    }),
    ...checkSupport(manifest),
  ]
  const fetched = sources.files.filter((file) => !facts.proven.has(file.path))
  return {
    files: sources.files,
    problems,
    downloads: sources.files.map((file) => ({
      to: file.to,
      action: facts.proven.has(file.path) ? 'keep' : 'fetch',
      sizeBytes: file.sizeBytes,
      source: file.from[0] ?? '',
    })),
    downloadBytes: fetched.some((file) => file.sizeBytes === null)
      ? null
      : fetched.reduce(
          (sum, file) => sum + Math.max(0, (file.sizeBytes ?? 0) - (facts.partialBytes.get(file.path) ?? 0)),
          0,
        ),
  }
}
