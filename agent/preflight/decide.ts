import type { Problem } from '../../shared/contract/errors.ts'
import type { PlanChanges } from '../../shared/contract/records.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { ON_THE_BOX } from '../../shared/preflight/check-secrets.ts'
import type { PlaceOf } from '../../shared/preflight/places-of-subjects.ts'
import { decideSources } from '../../shared/preflight/decide-sources.ts'
import type { Snapshot } from '../../shared/sources/plan-snapshot.ts'
import { checkGpu, checkProcesses, checkPrograms } from './check-box.ts'
import { checkHost } from './check-host.ts'
import { checkWorkflows } from './check-workflows.ts'
import { checkDisks } from './check-disks.ts'
import type { DiskNeed } from './check-disks.ts'
import type { Facts } from './facts.ts'
import type { WantedFile, WantedSnapshot } from './locate-files.ts'

/** A repository that answered: its files at one commit, where they go, and whether they are there. */
export type FoundSnapshot = {
  readonly snapshot: Snapshot
  readonly hfHome: string
  readonly optional: boolean
  readonly allowPickle: boolean
  readonly isProven: boolean
}

/** What is known before anything is done: every problem at once, and the files as the sources describe them. */
export type Decision = {
  readonly files: readonly WantedFile[]
  readonly snapshots: readonly FoundSnapshot[]
  readonly problems: readonly Problem[]
  readonly downloads: PlanChanges['downloads']
  readonly later: PlanChanges['later']
  readonly unchecked: readonly string[]
  /** Bytes still to fetch; null when a size is not published. */
  readonly downloadBytes: number | null
}

/** The decision is a pure function: the same manifest and facts give the same plan. */
export const decide = (
  wanted: {
    readonly manifest: Manifest
    readonly files: readonly WantedFile[]
    readonly snapshots: readonly WantedSnapshot[]
    readonly running: ReadonlySet<string>
    /** What the packages take, on the disk that overlays grow on. */
    readonly packages: readonly DiskNeed[]
    /** Names of secrets and variables without a value → the things that need them. */
    readonly missing: ReadonlyMap<string, readonly string[]>
    readonly placeOf: PlaceOf
  },
  facts: Facts,
): Decision => {
  const { manifest } = wanted
  const sources = decideSources(
    {
      manifest,
      files: wanted.files,
      isProven: (file) => facts.proven.has(file.path),
      secrets: { place: ON_THE_BOX, present: facts.secrets, missing: wanted.missing },
    },
    facts,
  )
  const files = sources.files.filter((file) => !facts.proven.has(file.path))
  const snapshots = sources.snapshots.map(({ request, snapshot }): FoundSnapshot => ({
    snapshot,
    hfHome: wanted.snapshots.find((one) => one.request === request)?.hfHome ?? '',
    optional: request.optional,
    allowPickle: request.allow_pickle,
    isProven: facts.provenSnapshots.has(request.snapshot),
  }))
  const needs = [
    ...files.map(({ to, path, sizeBytes }) => ({ to, path, bytes: bytesLeft(sizeBytes, path, facts) })),
    ...snapshots
      .filter((one) => !one.isProven)
      .map(({ snapshot, hfHome }) => ({ to: snapshot.to, path: hfHome, bytes: snapshot.sizeBytes })),
  ]
  const workflows = checkWorkflows(
    { manifest, downloads: new Set(wanted.files.map(({ path }) => path)), placeOf: wanted.placeOf },
    facts.comfyuis,
  )
  const problems = [
    ...sources.problems,
    ...checkGpu(manifest, facts),
    ...checkPrograms(manifest, facts),
    ...checkProcesses(manifest, facts, wanted.running),
    ...workflows.problems,
    ...checkHost(manifest, facts),
    ...checkPlaces(wanted.files, { facts, told: sources.problems }),
    ...checkDisks([...needs, ...wanted.packages], facts, {
      path: manifest.models_root ?? '/',
      bytes: manifest.requires.disk_free ?? 0,
    }),
  ]
  return {
    files: sources.files,
    snapshots,
    problems,
    downloads: [
      ...sources.files.map((file) => ({
        to: file.to,
        action: facts.proven.has(file.path) ? ('keep' as const) : ('fetch' as const),
        sizeBytes: facts.proven.get(file.path) ?? file.sizeBytes,
        source: file.from[0] ?? '',
      })),
      ...snapshots.map(({ snapshot, isProven }) => ({
        to: snapshot.to,
        action: isProven ? ('keep' as const) : ('fetch' as const),
        sizeBytes: snapshot.sizeBytes,
        source: snapshot.to,
      })),
    ],
    later: [...sources.later],
    unchecked: [...sources.unchecked, ...workflows.unchecked],
    downloadBytes: needs.reduce<number | null>(
      (sum, { bytes }) => (sum === null || bytes === null ? null : sum + bytes),
      0,
    ),
  }
}

/** Destinations that cannot be written. A file whose format is refused was told already. */
const checkPlaces = (
  files: readonly WantedFile[],
  { facts, told }: { readonly facts: Pick<Facts, 'refusedPlaces'>; readonly told: readonly Problem[] },
): readonly Problem[] =>
  files.flatMap(({ to, path, optional }) => {
    const refused = facts.refusedPlaces.get(path)
    if (refused === undefined || told.some(({ code, subject }) => code === refused.code && subject === to))
      return []
    return [{ ...refused, subject: to, severity: optional ? ('warning' as const) : ('error' as const) }]
  })

/** What `<name>.part` holds already need not be fetched, or fit, a second time. */
const bytesLeft = (
  sizeBytes: number | null,
  path: string,
  facts: Pick<Facts, 'partialBytes'>,
): number | null => (sizeBytes === null ? null : Math.max(0, sizeBytes - (facts.partialBytes.get(path) ?? 0)))
