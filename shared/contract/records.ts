import { z } from 'zod'
import type { ErrorCode, Problem as ProblemValue } from './errors.ts'
import { isErrorCode } from './errors.ts'
import {
  BUDGET_STATES,
  DOWNLOAD_STATES,
  PENDING_STATES,
  PROCESS_STATES,
  RUN_STATES,
  SCOPES,
  SYNC_STATES,
} from './states.ts'

/*
 * What the API answers, as schemas: the routes validate against them, OpenAPI is generated from them, and the
 * client takes their types. Times are ISO 8601 UTC, sizes bytes, null is unknown; for a limit null is “none”.
 */

const time = z.iso.datetime()
const bytes = z.number().nonnegative()

export const Problem: z.ZodType<ProblemValue> = z.object({
  code: z.string().refine((code): code is ErrorCode => isErrorCode(code)),
  severity: z.enum(['error', 'warning']),
  subject: z.string(),
  subjects: z.array(z.string()).exactOptional(),
  at: z.object({ file: z.string(), line: z.number(), column: z.number() }).exactOptional(),
  message: z.string(),
  hint: z.string(),
})
export type Problem = ProblemValue

export const Progress = z.object({
  bytesDone: bytes,
  bytesTotal: bytes.nullable(),
  bytesPerSecond: z.number(),
  etaSeconds: z.number().nullable(),
})
export type Progress = z.infer<typeof Progress>

export const RunRecord = z.object({
  id: z.string(),
  manifest: z.object({ name: z.string(), digest: z.string() }),
  state: z.enum(RUN_STATES),
  startedAt: time,
  endedAt: time.nullable(),
  problems: z.array(Problem),
  progress: Progress,
})
export type RunRecord = z.infer<typeof RunRecord>

export const DownloadRow = z.object({
  to: z.string(),
  state: z.enum(DOWNLOAD_STATES),
  bytesDone: bytes,
  bytesTotal: bytes.nullable(),
  source: z.string().nullable(),
  sha256: z.string().nullable(),
  verifiedAt: time.nullable(),
  problem: Problem.nullable(),
  bytesPerSecond: z.number(),
  etaSeconds: z.number().nullable(),
  connections: z.number(),
  retries: z.number(),
})
export type DownloadRow = z.infer<typeof DownloadRow>

/** What a ComfyUI has to do: the jobs that run or wait, and the steps of the one that runs. */
export const ProcessQueue = z.object({
  remaining: z.number(),
  progress: z.object({ done: z.number(), total: z.number() }).nullable(),
})
export type ProcessQueue = z.infer<typeof ProcessQueue>

export const ProcessRow = z.object({
  name: z.string(),
  kind: z.enum(['comfyui', 'cosmos', 'command']),
  state: z.enum(PROCESS_STATES),
  pid: z.number().nullable(),
  restarts: z.number(),
  startedAt: time.nullable(),
  exitCode: z.number().nullable(),
  signal: z.string().nullable(),
  url: z.string().nullable(),
  /** null for what has no queue, and while it is not known. */
  queue: ProcessQueue.nullable(),
  problem: Problem.nullable(),
})
export type ProcessRow = z.infer<typeof ProcessRow>

/** What a ComfyUI workflow needs, and whether the ComfyUI of a process has it. */
export const WorkflowReport = z.object({
  file: z.string(),
  process: z.string(),
  nodes: z.array(z.object({ name: z.string(), pack: z.string().nullable(), present: z.boolean() })),
  models: z.array(
    z.object({
      name: z.string(),
      folder: z.string().nullable(),
      node: z.string(),
      url: z.string().nullable(),
      present: z.boolean(),
    }),
  ),
  problems: z.array(Problem),
})
export type WorkflowReport = z.infer<typeof WorkflowReport>

/** A unit that the remote does not hold as it is now, and why not. */
export const PendingUnit = z.object({
  unit: z.string(),
  state: z.enum(PENDING_STATES),
  files: z.number(),
  sizeBytes: bytes,
  reason: z.string(),
})
export type PendingUnit = z.infer<typeof PendingUnit>

export const SyncRow = z.object({
  name: z.string(),
  state: z.enum(SYNC_STATES),
  lastSuccessAt: time.nullable(),
  pendingFiles: z.number(),
  pendingBytes: bytes,
  consecutiveFailures: z.number(),
  problem: Problem.nullable(),
  /** Newest first, the first twenty; `pendingFiles` counts all. */
  pending: z.array(PendingUnit),
  copying: Progress.extend({ unit: z.string() }).nullable(),
})
export type SyncRow = z.infer<typeof SyncRow>

const FlushedUnit = z.object({
  sync: z.string(),
  unit: z.string(),
  /** False for what lies beside checkpoints: a log, a configuration. */
  isCheckpoint: z.boolean(),
  sizeBytes: bytes,
})

/** What a flush brought to the remotes, and what no remote holds as it is now, each with the reason. */
export const FlushRecord = z.object({
  stored: z.array(FlushedUnit),
  left: z.array(FlushedUnit.extend({ state: z.enum(PENDING_STATES), reason: z.string() })),
  leftBytes: bytes,
  /** To copy what is left, at the speed of the last copy; null where none was measured. */
  secondsNeeded: z.number().nullable(),
  /** What ended the flush of a sync early: its remote does not answer, its folder cannot be read. */
  problems: z.array(Problem),
})
export type FlushRecord = z.infer<typeof FlushRecord>

export const BudgetRow = z.object({
  state: z.enum(BUDGET_STATES),
  /** Null while the price is not known. */
  spentUsd: z.number().nullable(),
  limitUsd: z.number().nullable(),
  rateUsdPerHour: z.number().nullable(),
  hoursUsed: z.number(),
  limitHours: z.number().nullable(),
  /** As announced; before that, when the first limit is reached at this price. */
  stopAt: time.nullable(),
  /** What happens at a limit; null without a budget. */
  onLimit: z.enum(['stop', 'notify']).nullable(),
  /** Null: an idle box is not looked for. `busy` says why it is not idle. */
  idle: z.object({ afterSeconds: z.number(), idleSeconds: z.number(), busy: z.array(z.string()) }).nullable(),
  /** Why the box could not be stopped. */
  problem: Problem.nullable(),
})
export type BudgetRow = z.infer<typeof BudgetRow>

export const CheckpointRow = z.object({
  name: z.string(),
  sync: z.string(),
  files: z.number(),
  sizeBytes: bytes,
  completeAt: time,
  digest: z.string(),
  remoteState: z.enum(['pending', 'stored', 'failed']),
})
export type CheckpointRow = z.infer<typeof CheckpointRow>

/** The files of one checkpoint, each with its hash: what pull-checkpoint fetches and checks against. */
export const CheckpointFiles = z.object({
  name: z.string(),
  /** `file`: the checkpoint is one file, which lies under the checkpoint's own name. */
  kind: z.enum(['folder', 'file']),
  sync: z.string(),
  digest: z.string(),
  completeAt: time,
  files: z.array(z.object({ path: z.string(), sizeBytes: bytes, sha256: z.string() })),
  /** Where its copy lies, or will: `b2:bucket/run-1`, with the name of a remote; null where that is a path of the box. */
  remote: z.string().nullable(),
})
export type CheckpointFiles = z.infer<typeof CheckpointFiles>

/** SHA-256 of each chunk of a file (chunks.ts), in order; `headerBytes`: the length of the first one where it is a header. */
export const ChunkHashes = z.object({ headerBytes: bytes, hashes: z.array(z.string()) })
export type ChunkHashes = z.infer<typeof ChunkHashes>

export const ModelRow = z.object({
  path: z.string(),
  source: z.string().nullable(),
  sizeBytes: bytes.nullable(),
  sha256: z.string().nullable(),
  verifiedAt: time.nullable(),
  state: z.enum(DOWNLOAD_STATES),
})
export type ModelRow = z.infer<typeof ModelRow>

export const EventRecord = z.object({
  id: z.number().int(),
  at: time,
  type: z.string(),
  subject: z.string(),
  data: z.record(z.string(), z.unknown()),
})
export type EventRecord = z.infer<typeof EventRecord>

export const TokenRow = z.object({
  id: z.string(),
  name: z.string(),
  scope: z.enum(SCOPES),
  createdAt: time,
  lastUsedAt: time.nullable(),
  expiresAt: time.nullable(),
})
export type TokenRow = z.infer<typeof TokenRow>

export const HostRecord = z.object({
  hostname: z.string(),
  gpus: z
    .array(
      z.object({
        name: z.string(),
        memoryTotalBytes: bytes,
        memoryUsedBytes: bytes,
        utilizationPercent: z.number().nullable(),
        driver: z.string(),
      }),
    )
    .nullable(),
  disks: z.array(z.object({ path: z.string(), totalBytes: bytes, freeBytes: bytes })),
  memory: z.object({ totalBytes: bytes, freeBytes: bytes }),
})
export type HostRecord = z.infer<typeof HostRecord>

export const StatusRecord = z.object({
  agent: z.object({
    id: z.string(),
    version: z.string(),
    pid: z.number(),
    startedAt: time,
    home: z.string(),
  }),
  host: HostRecord,
  manifest: z.object({ name: z.string(), digest: z.string(), appliedAt: time }).nullable(),
  run: RunRecord.nullable(),
  downloads: z.array(DownloadRow),
  processes: z.array(ProcessRow),
  sync: z.array(SyncRow),
  budget: BudgetRow.nullable(),
  healthy: z.boolean(),
  problems: z.array(Problem),
})
export type StatusRecord = z.infer<typeof StatusRecord>

export const PlanChanges = z.object({
  downloads: z.array(
    z.object({
      to: z.string(),
      action: z.enum(['fetch', 'keep']),
      sizeBytes: bytes.nullable(),
      source: z.string(),
    }),
  ),
  python: z.array(z.object({ name: z.string(), from: z.string().nullable(), to: z.string() })),
  processes: z.array(z.object({ name: z.string(), action: z.enum(['start', 'restart', 'keep', 'stop']) })),
  /** What programs fetch by themselves once they run, each with the entry of `downloads` that fetches it before. */
  later: z.array(z.object({ source: z.string(), download: z.string() })),
  /** What is on the box, though the manifest does not want it (any more). It is never taken away. */
  left: z.object({
    files: z.array(z.object({ path: z.string(), sizeBytes: bytes.nullable() })),
    packages: z.array(z.object({ name: z.string(), version: z.string() })),
  }),
})
export type PlanChanges = z.infer<typeof PlanChanges>

export const PlanRecord = z.object({
  problems: z.array(Problem),
  changes: PlanChanges,
  estimate: z.object({
    downloadBytes: bytes.nullable(),
    seconds: z.number().nullable(),
    usd: z.number().nullable(),
  }),
  unchecked: z.array(z.string()),
})
export type PlanRecord = z.infer<typeof PlanRecord>

export const ErrorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    hint: z.string(),
    problems: z.array(Problem).exactOptional(),
  }),
})
export type ErrorBody = { error: { code: string; message: string; hint: string; problems?: Problem[] } }
