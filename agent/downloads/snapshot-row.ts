import type { DownloadRow } from '../../shared/contract/records.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { etaSeconds, type FileRow } from './file-row.ts'
import type { PlannedSnapshot } from './snapshot-layout.ts'

/** What is shown of a whole snapshot: the sum of its files. */
export type SnapshotRow = {
  readonly read: () => DownloadRow
  readonly end: (state: 'done' | 'failed', problem: Problem | null) => void
}

/** What a file does decides what its snapshot does, the first of these first. */
const STATES = ['downloading', 'waiting', 'verifying', 'resolving', 'queued'] as const

export const createSnapshotRow = (
  { snapshot }: PlannedSnapshot,
  context: { readonly files: readonly FileRow[]; readonly now: () => Date },
): SnapshotRow => {
  let ended: Pick<DownloadRow, 'state' | 'problem' | 'verifiedAt'> | undefined
  return {
    end: (state, problem) => {
      ended = { state, problem, verifiedAt: state === 'done' ? context.now().toISOString() : null }
    },
    read: () => {
      const files = context.files.map((file) => file.read())
      const sum = (of: (row: DownloadRow) => number): number =>
        files.reduce((total, row) => total + of(row), 0)
      const bytesDone = sum((row) => row.bytesDone)
      const bytesTotal = sum((row) => row.bytesTotal ?? 0)
      const bytesPerSecond = sum((row) => row.bytesPerSecond)
      return {
        to: snapshot.to,
        state: STATES.find((state) => files.some((row) => row.state === state)) ?? 'verifying',
        bytesDone,
        bytesTotal,
        source: snapshot.to,
        sha256: null,
        verifiedAt: null,
        problem: files.find((row) => row.problem !== null)?.problem ?? null,
        bytesPerSecond,
        etaSeconds: etaSeconds({ bytesDone, bytesTotal }, bytesPerSecond),
        connections: sum((row) => row.connections),
        retries: sum((row) => row.retries),
        ...ended,
      }
    },
  }
}
