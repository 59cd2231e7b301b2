import pLimit from 'p-limit'
import { type Problem, problemFrom } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { DownloadRow, ModelRow, Progress } from '../../shared/contract/records.ts'
import type { Fetcher } from '../../shared/sources/fetcher.ts'
import type { SnapshotRequest } from '../../shared/sources/plan-snapshot.ts'
import type { ResolveDeps } from '../../shared/sources/resolved-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import type { Log } from '../platform/log.ts'
import { createBandwidth } from './bandwidth.ts'
import { DEFAULT_LIMITS, type DownloadLimits } from './download-limits.ts'
import { fetchFile } from './fetch-file.ts'
import { fetchSnapshot } from './fetch-snapshot.ts'
import { createFileRow, type FileRow } from './file-row.ts'
import { createHasher } from './hasher.ts'
import { createKeptSnapshots, type KeptSnapshot } from './kept-snapshots.ts'
import { listModels } from './list-models.ts'
import type { FileOutcome, PlannedFile } from './planned-file.ts'
import { createPaces } from './pace.ts'
import { findProven } from './proven.ts'
import { createRows } from './rows.ts'
import { blobFiles, isLinked, type PlannedSnapshot } from './snapshot-layout.ts'
import { createSnapshotRow } from './snapshot-row.ts'
import { createTurns } from './turns.ts'
import { createVerifiedFiles } from './verified-files.ts'
import type { VerifiedFile } from './verified-files.ts'
import { verifyModels } from './verify-models.ts'

export type DownloadsDeps = {
  readonly db: Database
  readonly resolve: ResolveDeps
  readonly http: { readonly fetch: Fetcher }
  readonly clock: Clock
  readonly report: Report
  readonly log?: Log
  readonly limits?: Partial<DownloadLimits>
}

export type Downloads = {
  /**
   * Brings every file to its destination: required before optional ones, large before small ones, several at once. One
   * file's failure is its outcome and stops no other. Rejects only with the signal's reason, after all have let go.
   */
  readonly fetchAll: (
    files: readonly PlannedFile[],
    context: { readonly signal: AbortSignal },
  ) => Promise<readonly FileOutcome[]>
  /**
   * Brings whole repositories into Hugging Face's cache; one outcome and one row for each, named by its commit. May run
   * beside fetchAll. Rejects only with the signal's reason, after all have let go.
   */
  readonly fetchSnapshots: (
    snapshots: readonly PlannedSnapshot[],
    context: { readonly signal: AbortSignal },
  ) => Promise<readonly FileOutcome[]>
  /** Brings one file beside whatever set is under way. */
  readonly fetchOne: (file: PlannedFile, context: { readonly signal: AbortSignal }) => Promise<FileOutcome>
  /** Reads every verified file again and returns what is wrong; a damaged one is fetched again by the next run. */
  readonly verify: (context: { readonly signal: AbortSignal }) => Promise<readonly Problem[]>
  /** Every file and snapshot that is there, also from earlier runs. */
  readonly models: () => Promise<readonly ModelRow[]>
  /** What the very same request brought earlier, when all of it is still there and proven. */
  readonly recallSnapshot: (request: SnapshotRequest, hfHome: string) => Promise<KeptSnapshot | undefined>
  /** True when every file of the snapshot is proven and linked: no request, no reading. */
  readonly isSnapshotProven: (snapshot: PlannedSnapshot) => Promise<boolean>
  /** The record of a file that was verified before and lies unchanged on disk: one look, no reading. */
  readonly proven: (file: PlannedFile) => Promise<VerifiedFile | undefined>
  /** The files of the current set, or of the last one. */
  readonly rows: () => DownloadRow[]
  readonly progress: () => Progress
}

/** The one part of the agent that fetches files. Whoever asks, a destination has one transfer at a time. */
export const createDownloads = (deps: DownloadsDeps): Downloads => {
  const { clock } = deps
  const limits = { ...DEFAULT_LIMITS, ...deps.limits }
  const verified = createVerifiedFiles(deps.db, clock)
  const snapshots = createKeptSnapshots(deps.db, clock)
  const hasher = createHasher()
  const paceOf = createPaces(() => clock.monotonicMs(), limits.connections)
  const bandwidth = limits.bytesPerSecond === null ? null : createBandwidth(limits.bytesPerSecond, clock)
  const limit = pLimit(limits.files)
  const rows = createRows()
  const { inTurn, fetchInTurn } = createTurns(limit)
  let sets = 0

  const fetchInto = async (
    file: PlannedFile,
    context: {
      readonly row: FileRow
      readonly twin: string | undefined
      readonly report: Report
      readonly signal: AbortSignal
      readonly before?: () => Promise<void>
    },
  ): Promise<FileOutcome> => {
    const { row, report, signal } = context
    try {
      signal.throwIfAborted()
      await context.before?.()
      const warning = await fetchFile(file, {
        resolve: deps.resolve,
        fetch: deps.http.fetch,
        limits: {
          connections: limits.connectionsPerFile,
          segmentBytes: limits.segmentBytes,
          recordEveryMs: limits.recordEveryMs,
          slow: limits.slow,
        },
        bandwidth,
        verified,
        hasher,
        paceOf,
        clock,
        report,
        row,
        twin: context.twin,
        signal,
      })
      row.update({ problem: warning })
      return { to: file.to, state: 'done', problem: warning, optional: file.optional }
    } catch (error) {
      const problem = problemFrom(error, file.to, file.optional ? 'warning' : 'error')
      row.update({ state: 'failed', problem, connections: 0 })
      if (!signal.aborted) {
        report({
          type: 'download.failed',
          subject: file.to,
          data: { code: problem.code, message: problem.message, optional: file.optional },
        })
        deps.log?.warn('a download failed', { to: file.to, code: problem.code, reason: problem.message })
      }
      return { to: file.to, state: 'failed', problem, optional: file.optional }
    }
  }

  /** Rows are those of the sets under way, or of the last one. */
  const inSet = async <T>(work: () => Promise<T>): Promise<T> => {
    if (sets === 0) rows.beginSet()
    sets += 1
    try {
      return await work()
    } finally {
      sets -= 1
    }
  }

  const fetchOneSnapshot = async (planned: PlannedSnapshot, signal: AbortSignal): Promise<FileOutcome> => {
    const blobs = blobFiles(planned).map((file) => ({ file, row: createFileRow(file, clock) }))
    const row = createSnapshotRow(planned, { files: blobs.map((blob) => blob.row), now: clock.now })
    rows.put(planned.snapshot.to, row, { ofSet: true })
    const outcome = await fetchSnapshot(planned, {
      blobs,
      row,
      fetchBlob: (file, context) =>
        fetchInTurn(file, (twin) => fetchInto(file, { ...context, twin, signal })),
      clock,
      report: deps.report,
      signal,
    })
    if (outcome.state === 'done') snapshots.add(planned)
    return outcome
  }

  const isSnapshotProven = async (planned: PlannedSnapshot): Promise<boolean> => {
    for (const file of blobFiles(planned)) if ((await proven(file)) === undefined) return false
    return isLinked(planned)
  }

  const proven = (file: PlannedFile): Promise<VerifiedFile | undefined> =>
    findProven(file, { verified, resolve: deps.resolve })

  return {
    fetchAll: (files, { signal }) =>
      inSet(async () => {
        const ordered = inOrder(files).map((file) => {
          const row = createFileRow(file, clock)
          rows.put(file.path, row, { ofSet: true })
          return { file, row }
        })
        const outcomes = await Promise.all(
          ordered.map(({ file, row }) =>
            fetchInTurn(file, (twin) => fetchInto(file, { row, twin, signal, report: deps.report })),
          ),
        )
        signal.throwIfAborted()
        const byDestination = new Map(outcomes.map((outcome, index) => [ordered[index]?.file, outcome]))
        return files.flatMap((file) => byDestination.get(file) ?? [])
      }),
    fetchSnapshots: (snapshots, { signal }) =>
      inSet(async () => {
        const outcomes = await Promise.all(snapshots.map((planned) => fetchOneSnapshot(planned, signal)))
        signal.throwIfAborted()
        return outcomes
      }),
    fetchOne: async (file, { signal }) => {
      const row = createFileRow(file, clock)
      const outcome = await fetchInTurn(
        file,
        (twin) => fetchInto(file, { row, twin, signal, report: deps.report }),
        // Until then the row of the destination is that of whoever is at work on it.
        () => rows.put(file.path, row),
      )
      signal.throwIfAborted()
      return outcome
    },
    verify: (context) =>
      verifyModels({ verified, snapshots, hasher, rows, clock, report: deps.report, inTurn }, context),
    models: () => listModels({ rows, verified, snapshots }),
    recallSnapshot: async (request, hfHome) => {
      const kept = snapshots.find(request, hfHome)
      return kept && (await isSnapshotProven({ ...kept, optional: false, allowPickle: true }))
        ? kept
        : undefined
    },
    isSnapshotProven,
    proven,
    rows: rows.all,
    progress: rows.progress,
  }
}

/** A large file decides how long the set takes, and a required one whether it is good for anything. */
const inOrder = (files: readonly PlannedFile[]): readonly PlannedFile[] =>
  files.toSorted(
    (a, b) =>
      Number(a.optional) - Number(b.optional) || sizeOf(b) - sizeOf(a) || a.path.localeCompare(b.path),
  )

/** A file of unknown size may be the largest. */
const sizeOf = (file: PlannedFile): number => file.sizeBytes ?? Number.MAX_SAFE_INTEGER
