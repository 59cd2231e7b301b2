import { lstat, statfs } from 'node:fs/promises'
import { connect } from 'node:net'
import pLimit from 'p-limit'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Snapshot } from '../../shared/sources/plan-snapshot.ts'
import { findProgram } from '../platform/commands.ts'
import { deviceOf } from '../platform/files.ts'
import { readGpus } from '../platform/gpu.ts'
import type { DiskFact, Facts, SnapshotFact, SourceFact } from './facts.ts'
import type { WantedFile, WantedSnapshot } from './locate-files.ts'

/** Sources asked at once: enough for 50 in a few seconds, few enough for a hub's rate limit. */
const SOURCES_AT_ONCE = 8
const PORT_TIMEOUT_MS = 500

/** Ways to ask that belong to other rooms; compose.ts hands them in. */
export type Probes = {
  readonly searchPath: string
  readonly hasSecret: (name: string) => boolean
  readonly resolveSource: (
    reference: string,
    signal: AbortSignal,
  ) => Promise<{ readonly sizeBytes: number | null; readonly sha256: string | null }>
  readonly isProven: (file: WantedFile) => Promise<boolean>
  readonly planSnapshot: (request: WantedSnapshot['request'], signal: AbortSignal) => Promise<Snapshot>
  readonly isSnapshotProven: (snapshot: Snapshot, wanted: WantedSnapshot) => Promise<boolean>
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
  const proven = new Set<string>()
  await Promise.all(
    files.map(async (file) => ((await probes.isProven(file)) ? proven.add(file.path) : undefined)),
  )
  const unproven = files.filter((file) => !proven.has(file.path))
  const references = [...new Set([...unproven.flatMap((file) => file.from), ...manifest.requires.access])]
  const [sources, snapshots, disks, gpus, folders, partialBytes, portsInUse] = await Promise.all([
    askSources(references, context),
    listSnapshots(wanted.snapshots, context),
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
  ])
  return {
    secrets: new Set(
      [...manifest.secrets.required, ...manifest.secrets.optional].filter((name) => probes.hasSecret(name)),
    ),
    sources,
    snapshots,
    proven,
    partialBytes,
    disks,
    gpus,
    folders,
    programs: new Map(['git', 'rclone'].map((name) => [name, findProgram(name, probes.searchPath)])),
    portsInUse,
  }
}

const listSnapshots = async (
  wanted: readonly WantedSnapshot[],
  { probes, signal }: { readonly probes: Probes; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, SnapshotFact>> => {
  const list = async (one: WantedSnapshot): Promise<readonly [string, SnapshotFact]> => {
    try {
      const snapshot = await probes.planSnapshot(one.request, signal)
      const isProven = await probes.isSnapshotProven(snapshot, one)
      return [one.request.snapshot, { state: 'answers', snapshot, isProven }]
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof AgentError)) throw error
      return [one.request.snapshot, { state: 'refused', problem: problemFrom(error, one.request.snapshot) }]
    }
  }
  return new Map(await Promise.all(wanted.map(list)))
}

const askSources = async (
  references: readonly string[],
  context: { readonly probes: Probes; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, SourceFact>> => {
  const limit = pLimit(SOURCES_AT_ONCE)
  const ask = async (reference: string): Promise<readonly [string, SourceFact]> => {
    try {
      const { sizeBytes, sha256 } = await context.probes.resolveSource(reference, context.signal)
      return [reference, { state: 'answers', sizeBytes, sha256 }]
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof AgentError)) throw error
      return [reference, { state: 'refused', problem: problemFrom(error, reference) }]
    }
  }
  return new Map(await Promise.all(references.map((reference) => limit(ask, reference))))
}

const readDisks = async (paths: readonly string[]): Promise<ReadonlyMap<string, DiskFact>> => {
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
const readPartialBytes = async (files: readonly WantedFile[]): Promise<ReadonlyMap<string, number>> => {
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
