import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { AgentEvent, Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { FileRow } from './file-row.ts'
import type { FileOutcome, PlannedFile } from './planned-file.ts'
import { isLocked, linkSnapshot, lockPath, type PlannedSnapshot } from './snapshot-layout.ts'
import type { SnapshotRow } from './snapshot-row.ts'

export type SnapshotContext = {
  readonly blobs: readonly { readonly file: PlannedFile; readonly row: FileRow }[]
  readonly row: SnapshotRow
  /** Brings one file to its place, in turn with all others. */
  readonly fetchBlob: (
    file: PlannedFile,
    context: { readonly row: FileRow; readonly before: () => Promise<void>; readonly report: Report },
  ) => Promise<FileOutcome>
  readonly clock: Clock
  readonly report: Report
  readonly signal: AbortSignal
}

/** Of a snapshot's single files only what went wrong is told; the rest is told of the snapshot. */
const TOLD_OF_FILES: readonly AgentEvent['type'][] = ['download.source-failed', 'download.waiting']
const LOOK_AT_LOCK_EVERY_MS = 1_000

/** Brings all files of a repository at one commit into Hugging Face's cache, then makes them visible there. */
export const fetchSnapshot = async (
  planned: PlannedSnapshot,
  context: SnapshotContext,
): Promise<FileOutcome> => {
  const { snapshot, optional } = planned
  const { report, clock, row, signal } = context
  const startedMs = clock.monotonicMs()
  const end = (state: 'done' | 'failed', problem: FileOutcome['problem']): FileOutcome => {
    row.end(state, problem)
    return { to: snapshot.to, state, problem, optional }
  }
  try {
    refusePickles(planned)
    report({
      type: 'download.started',
      subject: snapshot.to,
      data: {
        source: snapshot.to,
        sizeBytes: snapshot.sizeBytes,
        commit: snapshot.commit,
        files: snapshot.files.length,
      },
    })
    const outcomes = await Promise.all(
      context.blobs.map(({ file, row: blobRow }) =>
        context.fetchBlob(file, {
          row: blobRow,
          before: () => waitForLock(file, { ...context, row: blobRow }),
          report: (event) => {
            if (TOLD_OF_FILES.includes(event.type)) report(event)
          },
        }),
      ),
    )
    signal.throwIfAborted()
    const failed = outcomes.find((outcome) => outcome.state === 'failed')?.problem
    if (failed)
      throw new AgentError(failed.code, `${failed.subject}: ${failed.message}`, { hint: failed.hint })
    await linkSnapshot(planned)
    report({
      type: 'download.done',
      subject: snapshot.to,
      data: {
        source: snapshot.to,
        sizeBytes: snapshot.sizeBytes,
        files: snapshot.files.length,
        seconds: Math.round((clock.monotonicMs() - startedMs) / 100) / 10,
      },
    })
    return end('done', null)
  } catch (error) {
    const problem = problemFrom(error, snapshot.to, optional ? 'warning' : 'error')
    if (!signal.aborted)
      report({
        type: 'download.failed',
        subject: snapshot.to,
        data: { code: problem.code, message: problem.message, optional },
      })
    return end('failed', problem)
  }
}

const refusePickles = ({ snapshot, allowPickle }: PlannedSnapshot): void => {
  const [first] = snapshot.pickles
  if (first === undefined || allowPickle) return
  throw new AgentError(
    'pickle_refused',
    `${snapshot.to} has ${snapshot.pickles.length} files that can run code when they are loaded: ${first}`,
    { hint: 'Leave them out with exclude, or set allow_pickle: true.' },
  )
}

/** Another program of this box fetches the same blob: what it leaves is looked at afterwards. */
const waitForLock = async (
  file: PlannedFile,
  { row, clock, report, signal }: Omit<SnapshotContext, 'row'> & { readonly row: FileRow },
): Promise<void> => {
  for (let waits = 0; await isLocked(file.path); waits += 1) {
    const error = new AgentError('busy', `another program holds ${lockPath(file.path)}`)
    row.update({ state: 'waiting', problem: problemFrom(error, file.to, 'warning') })
    if (waits === 0)
      report({
        type: 'download.waiting',
        subject: file.to,
        data: { code: error.code, message: error.message },
      })
    await clock.sleep(LOOK_AT_LOCK_EVERY_MS, signal)
  }
  row.update({ problem: null })
}
