import { homedir } from 'node:os'
import type { Problem } from '../../shared/contract/errors.ts'
import type { PlanRecord } from '../../shared/contract/records.ts'
import { findReferences } from '../../shared/manifest/interpolate.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { planBudget } from '../budget/planned-budget.ts'
import { findLeft } from './find-left.ts'
import { decide } from '../preflight/decide.ts'
import type { FoundSnapshot } from '../preflight/decide.ts'
import { ASSUMED_BYTES_PER_SECOND, estimateDownloads, rateOf } from '../../shared/preflight/estimate.ts'
import { gatherFacts } from '../preflight/gather-facts.ts'
import { locateFiles, locateSnapshots } from '../preflight/locate-files.ts'
import type { WantedFile } from '../preflight/locate-files.ts'
import type { PythonPlan } from '../python/plan-python.ts'
import type { PlannedSync } from '../sync/planned-sync.ts'
import { checkStarts } from './check-starts.ts'
import { planEnvironment } from './plan-environment.ts'
import { planProcesses } from './plan-processes.ts'
import { findSharedPlaces, planSyncs } from './plan-sync.ts'
import type { ReadManifest } from './read-manifest.ts'
import { recallSnapshots } from './recall-snapshots.ts'
import type { Rooms } from './rooms.ts'
import { sizePackages } from './size-packages.ts'

/** What apply is going to do: plain values, worked out without changing anything. */
export type Plan = {
  readonly manifest: Manifest
  readonly files: readonly WantedFile[]
  readonly snapshots: readonly FoundSnapshot[]
  readonly python: PythonPlan | null
  readonly syncs: readonly PlannedSync[]
  readonly problems: readonly Problem[]
  /** Something that was asked for is left out, as the user allowed: the run is going to be degraded. */
  readonly isPartial: boolean
  readonly record: PlanRecord
}

/** Every problem at once, worst first, and every change. */
export const makePlan = async (
  read: ReadManifest,
  context: {
    readonly rooms: Rooms
    /** Before an apply the key that stops the box is proven by a write that changes nothing. */
    readonly write?: boolean
    /** The agent was started: what a sync tries again by itself keeps no process from starting. */
    readonly atBoot?: boolean
    readonly signal: AbortSignal
  },
): Promise<Plan> => {
  const { manifest } = read
  const { rooms, signal } = context
  const files = locateFiles(manifest)
  const snapshots = locateSnapshots(manifest, homedir())
  const syncs = planSyncs(manifest)
  const [asked, python, remoteProblems, budget] = await Promise.all([
    gatherFacts({ manifest, files, snapshots, homePath: rooms.homePath }, { probes: rooms.probes, signal }),
    planEnvironment(manifest, context),
    Promise.all(syncs.filter(isFilledIn).map((sync) => rooms.checkRemote(sync, { signal }))),
    rooms.budget.check(planBudget(manifest.budget), { write: context.write ?? false, signal }),
  ])
  const { facts, problems: recalled } = await recallSnapshots(snapshots, { facts: asked, rooms })
  const running = new Set(
    rooms.processes
      .rows()
      .filter((row) => row.pid !== null)
      .map((row) => row.name),
  )
  const packages = await sizePackages(python.plan, { rooms, signal })
  const decision = decide(
    {
      manifest,
      files,
      snapshots,
      running,
      missing: read.missing,
      packages: packages.needs,
      placeOf: read.placeOf,
    },
    facts,
  )
  const processes = planProcesses(manifest, {
    python: python.plan,
    searchPath: rooms.probes.searchPath,
  })
  const actions = rooms.processes.preview(processes.planned)
  const starts = checkStarts(processes.planned, {
    actions,
    python: python.plan,
    hasPython: manifest.python !== undefined,
    fetched: new Set(files.map(({ path }) => path)),
    hasNodes: manifest.custom_nodes.length > 0,
  })
  const problems = worstFirst(
    [
      ...read.problems,
      ...decision.problems,
      ...recalled,
      ...python.problems.filter(isNotOfTheDisk),
      ...processes.problems,
      ...starts.problems,
      ...remoteProblems
        .filter((problem) => problem !== null)
        .map((problem) => (context.atBoot === true ? { ...problem, severity: 'warning' as const } : problem)),
      ...findSharedPlaces(syncs),
      ...budget.problems,
      ...rooms.notify.check(manifest.notify?.webhook),
    ].map((problem) => withPlace(problem, read)),
  )
  const downloadBytes =
    decision.downloadBytes === null ? null : decision.downloadBytes + packages.downloadBytes
  return {
    manifest,
    files: decision.files,
    snapshots: decision.snapshots,
    python: python.plan,
    syncs,
    problems,
    isPartial: false,
    record: {
      problems,
      changes: {
        downloads: [...decision.downloads],
        python: [...(python.plan?.changes ?? [])],
        processes: [...actions],
        later: decision.later,
        left: await findLeft(
          { files: decision.files, snapshots: decision.snapshots, python: python.plan },
          rooms,
        ),
      },
      estimate: estimateDownloads(downloadBytes, {
        bytesPerSecond: ASSUMED_BYTES_PER_SECOND,
        usdPerHour: rateOf(manifest),
      }),
      unchecked: [...decision.unchecked, ...packages.unchecked, ...starts.unchecked, ...budget.unchecked],
    },
  }
}

/** The packages alone; here they are held against the disk together with the downloads. */
const isNotOfTheDisk = ({ code }: Problem): boolean => code !== 'disk_too_small'

/** A remote whose credentials are missing is told as that; asking it would only tell it again. */
const isFilledIn = ({ remote, to }: PlannedSync): boolean =>
  [to, ...Object.values(remote?.options ?? {})].every((value) => findReferences(value).names.length === 0)

const withPlace = (problem: Problem, read: ReadManifest): Problem => {
  if (problem.at !== undefined) return problem
  const at = read.placeOf(problem.subject)
  return at === undefined ? problem : { ...problem, at }
}

/** The same problem found by two stages is one problem. */
export const withoutRepeats = (problems: readonly Problem[]): readonly Problem[] => [
  ...new Map(
    problems.map((problem) => [`${problem.code} ${problem.subject} ${problem.message}`, problem]),
  ).values(),
]

const worstFirst = (problems: readonly Problem[]): Problem[] => [
  ...problems.filter((problem) => problem.severity === 'error'),
  ...problems.filter((problem) => problem.severity === 'warning'),
]
