import { mkdirSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type {
  CheckpointFiles,
  CheckpointRow,
  ChunkHashes,
  FlushRecord,
  SyncRow,
} from '../../shared/contract/records.ts'
import { aborted } from '../platform/aborted.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { CheckpointName, OpenCheckpointFile } from './checkpoints.ts'
import { createCheckpoints } from './checkpoints.ts'
import { createHashChunks } from './chunk-hashes.ts'
import { createHashFile } from './file-hashes.ts'
import type { FlushOptions } from './flush-sync.ts'
import { keepSynced } from './keep-synced.ts'
import { openCarrier } from './open-carrier.ts'
import type { PlannedSync } from './planned-sync.ts'
import { passedEnvironment, reapOrphans, sweepTemporaryFolder } from './rclone.ts'
import type { SyncRun } from './run-sync.ts'
import { createSyncRun } from './run-sync.ts'
import { createSyncStore } from './sync-store.ts'

export type SyncDeps = {
  readonly db: Database
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  /** Where rclone is looked for. */
  readonly searchPath: string
  /** The agent's environment; only certificates, proxy and time zone of it reach rclone. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** A private folder of this room alone, on a disk of the box; made when it is missing. */
  readonly temporaryFolder: string
  readonly random?: () => number
  /** rclone is ended when it makes no progress for this long; 2 min by default. */
  readonly stallMs?: number
}

const STALL_MS = 120_000
const RESTART_MS = 5_000

export type Sync = ReturnType<typeof createSync>

/**
 * Copies what is complete to its remote and keeps at it, and says what could be pulled. Nothing is ever deleted on a
 * remote; a copy counts only after it was listed and compared and its record read back (store-units.ts).
 */
export const createSync = (deps: SyncDeps) => {
  mkdirSync(deps.temporaryFolder, { recursive: true, mode: 0o700 })
  const store = createSyncStore(deps.db, () => deps.clock.now())
  const hashFile = createHashFile(store)
  const rcloneDeps = {
    searchPath: deps.searchPath,
    environment: passedEnvironment(deps.environment),
    temporaryFolder: deps.temporaryFolder,
    stallMs: deps.stallMs ?? STALL_MS,
  }
  let runs: readonly Running[] = []
  let serviceSignal: AbortSignal | undefined
  const served = new Map<string, Promise<void>>()
  const checkpoints = createCheckpoints({ runs: () => runs.map(({ run }) => run), hashFile })
  const hashChunks = createHashChunks(store)

  const createRun = (planned: PlannedSync): Running => ({
    run: createSyncRun(planned, {
      ...deps,
      store,
      hashFile,
      random: deps.random ?? Math.random,
      openCarrier: (one, signal) => openCarrier(one, { ...rcloneDeps, hashFile, signal }),
    }),
    ended: new AbortController(),
    isServed: false,
  })

  /** Runs until the service or this sync ends; trouble inside is the row's, so only a defect comes here again. */
  const serve = async ({ run, ended }: Running, signal: AbortSignal): Promise<void> => {
    const both = AbortSignal.any([signal, ended.signal])
    for (;;) {
      try {
        await keepSynced(run, { clock: deps.clock, log: deps.log, signal: both })
      } catch (error) {
        if (both.aborted) return
        deps.log.error('a sync stopped by itself; it starts again', {
          sync: run.planned.spec.name,
          error: errorText(error),
        })
        await deps.clock.sleep(RESTART_MS, both).catch(() => undefined)
      }
    }
  }

  const start = (running: Running): void => {
    if (!serviceSignal || running.isServed) return
    const signal = serviceSignal
    running.isServed = true
    const { name } = running.run.planned.spec
    // The one of this name that is leaving may still hold its destination; its successor waits for it.
    const service = (served.get(name) ?? Promise.resolve()).then(() => serve(running, signal))
    served.set(name, service)
  }

  return {
    /** Replaces the set: unchanged syncs go on, others end and new ones start. */
    configure: (specs: readonly PlannedSync[]): void => {
      const before = runs
      runs = specs.map(
        (planned) => before.find(({ run }) => isDeepStrictEqual(run.planned, planned)) ?? createRun(planned),
      )
      for (const running of before)
        if (!runs.includes(running))
          running.ended.abort(
            new AgentError('cancelled', `sync ${running.run.planned.spec.name} was changed`),
          )
      runs.forEach(start)
    },

    rows: (): SyncRow[] => runs.map(({ run }) => run.row()),

    /** True when the last success, or the start, is longer ago than three times `every`. */
    isLate: (name: string): boolean => runs.some(({ run }) => run.planned.spec.name === name && run.isLate()),

    /**
     * A full comparison and copy of one sync or all, now, waiting until what is only a little too fresh has settled.
     * A failure is in the rows.
     * @throws AgentError not_found
     */
    runNow: async (name: string | null, { signal }: { signal: AbortSignal }): Promise<readonly SyncRow[]> => {
      const chosen = runs.filter(({ run }) => name === null || run.planned.spec.name === name)
      if (name !== null && chosen.length === 0) throw new AgentError('not_found', `there is no sync ${name}`)
      const passes = chosen.map(({ run, ended }) =>
        run.pass({ compare: true, waitToSettle: true, signal: AbortSignal.any([signal, ended.signal]) }),
      )
      await Promise.all(passes)
      return chosen.map(({ run }) => run.row())
    },

    /**
     * Before the box goes away: copies what can be copied until the deadline, newest complete units first, and starts
     * nothing that cannot end in time; waits for what only has to rest where there is time for it. The service may
     * run or not. Never throws for what a remote does: what is left says why.
     */
    flush: async (options: FlushOptions): Promise<FlushRecord> => {
      // An agent that is only stopped does not wait for a remote that was away before.
      const able =
        options.largestUnitBytes === undefined
          ? runs
          : runs.filter(({ run }) => run.row().problem?.severity !== 'error')
      const records = await Promise.all(able.map(({ run }) => run.flush(options)))
      return {
        stored: records.flatMap(({ stored }) => stored),
        left: records.flatMap(({ left }) => left),
        leftBytes: records.reduce((sum, { leftBytes }) => sum + leftBytes, 0),
        // Syncs are copied side by side.
        secondsNeeded: records.some(({ secondsNeeded }) => secondsNeeded === null)
          ? null
          : Math.max(0, ...records.map(({ secondsNeeded }) => secondsNeeded ?? 0)),
        problems: records.flatMap(({ problems }) => problems),
      }
    },

    service: {
      name: 'sync',
      run: async (signal: AbortSignal): Promise<void> => {
        serviceSignal = signal
        store.forgetOldHashes()
        const orphans = await reapOrphans(deps.temporaryFolder)
        if (orphans > 0) deps.log.warn('ended rclones that an earlier agent left', { orphans })
        await sweepTemporaryFolder(deps.temporaryFolder)
        runs.forEach(start)
        await aborted(signal)
        await Promise.all(served.values())
        served.clear()
        for (const running of runs) running.isServed = false
        serviceSignal = undefined
      },
    },

    /** Complete units, newest first. @throws AgentError not_found when there is no such sync */
    checkpoints: (
      sync: string | null,
      { signal }: { signal: AbortSignal } = neverAborted(),
    ): Promise<readonly CheckpointRow[]> => checkpoints.list(sync, signal),

    /** The files of one checkpoint with their hashes; `latest` is the newest complete one. @throws AgentError not_found */
    checkpointFiles: (
      which: CheckpointName,
      { signal }: { signal: AbortSignal } = neverAborted(),
    ): Promise<CheckpointFiles> => checkpoints.files(which, signal),

    /**
     * One file of the checkpoint that has this digest, open for reading.
     * @throws AgentError not_found, checkpoint_changed, unsafe_path
     */
    openCheckpointFile: (
      which: CheckpointName & { path: string; digest: string },
      { signal }: { signal: AbortSignal } = neverAborted(),
    ): Promise<OpenCheckpointFile> => checkpoints.open(which, signal),

    /**
     * Hashes of the chunks of one file of the checkpoint that has this digest.
     * @throws AgentError not_found, checkpoint_changed, unsafe_path
     */
    checkpointChunks: async (
      which: CheckpointName & { path: string; digest: string },
      { signal }: { signal: AbortSignal } = neverAborted(),
    ): Promise<ChunkHashes> => {
      const { handle, path } = await checkpoints.open(which, signal)
      try {
        return await hashChunks({ handle, path }, { signal })
      } finally {
        await handle.close()
      }
    },
  }
}

type Running = {
  readonly run: SyncRun
  readonly ended: AbortController
  isServed: boolean
}

const neverAborted = (): { signal: AbortSignal } => ({ signal: new AbortController().signal })
