import type { FileHandle } from 'node:fs/promises'
import type {
  BudgetRow,
  CheckpointFiles,
  CheckpointRow,
  ChunkHashes,
  DownloadRow,
  FlushRecord,
  ModelRow,
  Problem,
  ProcessRow,
  RunRecord,
  StatusRecord,
  SyncRow,
  WorkflowReport,
  PlanRecord,
} from '../../shared/contract/records.ts'
import type { AuditRecord } from '../../shared/contract/audit-record.ts'
import type { ManifestText, Started } from '../apply/apply.ts'
import type { GuardedPython } from '../apply/guarded-python.ts'
import type { PullRequest, Pulled } from '../apply/pull-model.ts'
import type { Journal } from '../apply/journal.ts'
import type { Runs } from '../apply/runs.ts'
import type { OneOff } from '../processes/planned-process.ts'
import type { SecretFile } from '../platform/secret-file.ts'
import type { Tokens } from './tokens.ts'

/** What the routes may do to the box: the rooms, seen through the few calls that the API needs. */
export type Box = {
  readonly version: string
  status(): Promise<StatusRecord>
  plan(manifest: ManifestText, signal: AbortSignal): Promise<PlanRecord>
  /** Resolves once the plan is accepted; the run goes on by itself. */
  apply(manifest: ManifestText): Promise<Started>
  cancel(runId: string): Promise<RunRecord>
  /** The run that the box stands for, with its progress as it is now. */
  currentRun(): RunRecord | undefined
  readonly runs: Runs
  readonly journal: Journal
  readonly tokens: Tokens
  /** Where the agent listens beside its socket, and the pin of its certificate; null when nowhere. */
  readonly tls: { readonly spkiPin: string; readonly ports: number[] } | null
  readonly secrets: SecretFile
  readonly downloads: { rows(): readonly DownloadRow[] }
  readonly models: {
    list(): Promise<readonly ModelRow[]>
    pull(request: PullRequest, context: { signal: AbortSignal }): Promise<Pulled>
    verify(context: { signal: AbortSignal }): Promise<readonly Problem[]>
  }
  readonly processes: {
    rows(): readonly ProcessRow[]
    row(name: string): ProcessRow
    start(name: string, context: { signal: AbortSignal }): Promise<string>
    stop(name: string, context: { signal: AbortSignal }): Promise<string>
    restart(name: string, context: { signal: AbortSignal }): Promise<string>
    logs(
      name: string,
      from: {
        readonly fromOffset?: number
        readonly tailLines?: number
        readonly sinceMs?: number
        readonly follow?: boolean
        readonly signal: AbortSignal
      },
    ): AsyncIterable<{ readonly offset: number; readonly bytes: Uint8Array }>
    terminal(
      name: string,
      options: { readonly fromOffset?: number; readonly signal: AbortSignal },
    ): Promise<{
      readonly output: AsyncIterable<{ readonly offset: number; readonly bytes: Uint8Array }>
      write(bytes: Uint8Array): void
      resize(columns: number, rows: number): void
      close(): void
      readonly closed: Promise<'ended' | 'slow'>
    }>
    /** Somebody uses its web page now. */
    noteWebUse(name: string): void
    /** Resolves when it has begun. */
    runOnce(oneOff: OneOff, context: { signal: AbortSignal }): Promise<ProcessRow>
    checkWorkflow(
      workflow: { readonly text: string; readonly file: string; readonly process: string | null },
      context: { signal: AbortSignal },
    ): Promise<WorkflowReport>
    /** Makes plain text of a stream of terminal output. */
    createStripper(): { push(bytes: Uint8Array): string; end(): string }
  }
  readonly python: GuardedPython
  /** Looks the box over; changes nothing. */
  audit(context: { signal: AbortSignal }): Promise<AuditRecord>
  readonly budget: {
    row(): BudgetRow
    extend(by: { readonly ms: number } | { readonly usd: number }): void
  }
  /** Somebody uses the box through the API; what comes back says that it is over. */
  readonly openWork: { enter(what: string): () => void }
  readonly sync: {
    rows(): readonly SyncRow[]
    runNow(name: string | null, context: { signal: AbortSignal }): Promise<readonly SyncRow[]>
    /** The last copies before the box goes away. */
    flush(options: { readonly deadlineMs: number; readonly signal: AbortSignal }): Promise<FlushRecord>
    checkpoints(sync: string | null): Promise<readonly CheckpointRow[]>
    checkpointFiles(of: { sync: string | null; name: string }): Promise<CheckpointFiles>
    openCheckpointFile(of: {
      sync: string | null
      name: string
      path: string
      digest: string
    }): Promise<{ readonly handle: FileHandle; readonly sizeBytes: number; readonly etag: string }>
    checkpointChunks(
      of: { sync: string | null; name: string; path: string; digest: string },
      context: { signal: AbortSignal },
    ): Promise<ChunkHashes>
  }
}
