import { lstat, statfs } from 'node:fs/promises'
import { connect } from 'node:net'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { askSources } from '../../shared/preflight/ask-sources.ts'
import { questionsOf } from '../../shared/preflight/decide-sources.ts'
import type { SourceFacts } from '../../shared/preflight/source-facts.ts'
import { watchClock } from '../../shared/preflight/watch-clock.ts'
import type { Snapshot } from '../../shared/sources/plan-snapshot.ts'
import type { ResolveDeps } from '../../shared/sources/resolved-source.ts'
import { findProgram } from '../platform/commands.ts'
import { deviceOf } from '../platform/files.ts'
import { readGpus } from '../platform/gpu.ts'
import type { DiskFact, Facts } from './facts.ts'
import type { WantedFile, WantedSnapshot } from './locate-files.ts'
import { readLimits } from './read-limits.ts'
import type { AskRunning } from './workflow-facts.ts'
import { gatherWorkflows } from './workflow-facts.ts'

const PORT_TIMEOUT_MS = 500

/** Ways to ask that belong to other rooms; compose.ts hands them in. */
export type Probes = {
  readonly searchPath: string
  readonly hasSecret: (name: string) => boolean
  readonly resolve: ResolveDeps
  /** The size in bytes of a file that was verified before and lies unchanged on disk. */
  readonly provenSize: (file: WantedFile) => Promise<number | undefined>
  /** @throws AgentError where the destination of a file cannot be written as it is */
  readonly checkPlace: (file: WantedFile) => Promise<void>
  readonly isSnapshotProven: (snapshot: Snapshot, wanted: WantedSnapshot) => Promise<boolean>
  readonly askRunning: AskRunning
}

/** Looks at the box and asks every source, all at once and changing nothing. */
export const gatherFacts = async (
  wanted: {
    readonly manifest: Manifest
    readonly files: readonly WantedFile[]
    readonly snapshots: readonly WantedSnapshot[]
    readonly homePath: string
  },
  context: { readonly probes: Probes; readonly signal: AbortSignal },
): Promise<Facts> => {
  const { manifest, files } = wanted
  const { probes, signal } = context
  const proven = new Map<string, number>()
  await Promise.all(
    files.map(async (file) => {
      const sizeBytes = await probes.provenSize(file)
      if (sizeBytes !== undefined) proven.set(file.path, sizeBytes)
    }),
  )
  const unproven = files.filter((file) => !proven.has(file.path))
  const clock = watchClock(probes.resolve.fetch, () => probes.resolve.clock.now())
  const [sources, disks, gpus, folders, partialBytes, portsInUse, refusedPlaces, limits, comfyuis] =
    await Promise.all([
      askSources(questionsOf(manifest, unproven), { ...probes.resolve, fetch: clock.fetch, signal }),
      readDisks([
        ...files.map((file) => file.path),
        ...wanted.snapshots.map((snapshot) => snapshot.hfHome),
        manifest.models_root ?? '/',
        wanted.homePath,
      ]),
      readGpus(probes.searchPath, signal),
      existingFolders(Object.values(manifest.processes).flatMap((spec) => spec.working_dir ?? [])),
      readPartialBytes(files),
      readPortsInUse(manifest),
      findRefusedPlaces(unproven, probes),
      readLimits(),
      gatherWorkflows({ manifest, files }, { askRunning: probes.askRunning, signal }),
    ])
  return {
    secrets: new Set(
      [...manifest.secrets.required, ...manifest.secrets.optional].filter((name) => probes.hasSecret(name)),
    ),
    ...sources,
    proven,
    provenSnapshots: await findProvenSnapshots(wanted.snapshots, { probes, sources }),
    partialBytes,
    disks,
    gpus,
    folders,
    programs: new Map(['git', 'ffmpeg'].map((name) => [name, findProgram(name, probes.searchPath)])),
    portsInUse,
    refusedPlaces,
    comfyuis,
    limits,
    clockAheadMs: clock.aheadMs(),
  }
}

const findRefusedPlaces = async (
  files: readonly WantedFile[],
  probes: Pick<Probes, 'checkPlace'>,
): Promise<Facts['refusedPlaces']> => {
  const refused = new Map<string, Problem>()
  for (const file of files) {
    try {
      await probes.checkPlace(file)
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      refused.set(file.path, problemFrom(error, file.to))
    }
  }
  return refused
}

const findProvenSnapshots = async (
  wanted: readonly WantedSnapshot[],
  { probes, sources }: { readonly probes: Probes; readonly sources: Pick<SourceFacts, 'snapshots'> },
): Promise<ReadonlySet<string>> => {
  const proven = await Promise.all(
    wanted.map(async (one) => {
      const { snapshot } = one.request
      const fact = sources.snapshots.get(snapshot)
      return fact?.state === 'answers' && (await probes.isSnapshotProven(fact.snapshot, one))
        ? [snapshot]
        : []
    }),
  )
  return new Set(proven.flat())
}

/** The disk of each path, which need not exist yet. */
export const readDisks = async (paths: readonly string[]): Promise<ReadonlyMap<string, DiskFact>> => {
  const disks = new Map<string, DiskFact>()
  for (const path of new Set(paths)) {
    const existing = await nearestFolder(path)
    const stats = await statfs(existing)
    disks.set(path, {
      path: existing,
      device: await deviceOf(existing),
      freeBytes: stats.bavail * stats.bsize,
      totalBytes: stats.blocks * stats.bsize,
    })
  }
  return disks
}

const nearestFolder = async (path: string): Promise<string> => {
  for (let current = path; ; current = current.slice(0, current.lastIndexOf('/')) || '/') {
    if (current === '/' || (await isFolder(current))) return current
  }
}

const isFolder = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => undefined))?.isDirectory() === true

const existingFolders = async (paths: readonly string[]): Promise<ReadonlySet<string>> => {
  const found = await Promise.all(paths.map(async (path) => ((await isFolder(path)) ? [path] : [])))
  return new Set(found.flat())
}

/** What `<name>.part` already holds on disk (512-byte blocks: the file is sparse) need not fit a second time. */
export const readPartialBytes = async (
  files: readonly Pick<WantedFile, 'path'>[],
): Promise<ReadonlyMap<string, number>> => {
  const sizes = await Promise.all(
    files.map(async ({ path }) => {
      const stats = await lstat(`${path}.part`).catch(() => undefined)
      return [path, (stats?.blocks ?? 0) * 512] as const
    }),
  )
  return new Map(sizes)
}

const readPortsInUse = async (manifest: Manifest): Promise<ReadonlySet<number>> => {
  const wanted = Object.values(manifest.processes).flatMap(portOf)
  const used = await Promise.all(wanted.map(async (port) => ((await answers(port)) ? [port] : [])))
  return new Set(used.flat())
}

/** The port that a process is going to listen on, where the manifest says so. */
export const portOf = (spec: Manifest['processes'][string]): readonly number[] => {
  if (spec.kind === 'comfyui') return [spec.port]
  if (spec.kind === 'cosmos' || spec.ready === undefined) return []
  if (spec.ready.port !== undefined) return [spec.ready.port]
  return spec.ready.http === undefined ? [] : [Number(new URL(spec.ready.http).port || 80)]
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: PORT_TIMEOUT_MS })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
    socket.once('timeout', () => end(false))
  })
