import type { DownloadRow } from '../../shared/contract/records.ts'
import type { Clock } from '../platform/clock.ts'
import type { PlannedFile } from './planned-file.ts'
import { createSpeedMeter } from './speed-meter.ts'
import type { VerifiedFile } from './verified-files.ts'

/** What is shown of one file while it is on its way. */
export type FileRow = {
  readonly update: (change: Partial<Omit<DownloadRow, 'to' | 'bytesPerSecond' | 'etaSeconds'>>) => void
  /** Counts bytes that just came over the network, or were just read again. */
  readonly add: (bytes: number) => void
  readonly countRetry: () => void
  readonly finish: (file: VerifiedFile) => void
  readonly read: () => DownloadRow
}

export const createFileRow = (
  file: Pick<PlannedFile, 'to' | 'sizeBytes' | 'sha256'>,
  clock: Clock,
): FileRow => {
  const meter = createSpeedMeter(() => clock.monotonicMs())
  let row: Omit<DownloadRow, 'to' | 'bytesPerSecond' | 'etaSeconds'> = {
    state: 'queued',
    bytesDone: 0,
    bytesTotal: file.sizeBytes,
    source: null,
    sha256: file.sha256,
    verifiedAt: null,
    problem: null,
    connections: 0,
    retries: 0,
  }
  return {
    update: (change) => {
      row = { ...row, ...change }
    },
    add: (bytes) => {
      meter.add(bytes)
      row = { ...row, bytesDone: row.bytesDone + bytes }
    },
    countRetry: () => {
      row = { ...row, retries: row.retries + 1 }
    },
    finish: (verified) => {
      row = {
        ...row,
        state: 'done',
        bytesDone: verified.sizeBytes,
        bytesTotal: verified.sizeBytes,
        source: verified.source ?? row.source,
        sha256: verified.sha256,
        verifiedAt: verified.verifiedAt,
        connections: 0,
      }
    },
    read: () => {
      const isMoving = row.state === 'downloading' || row.state === 'verifying'
      const isThere = row.bytesDone === row.bytesTotal
      const bytesPerSecond = isMoving && !isThere ? Math.round(meter.bytesPerSecond()) : 0
      return { to: file.to, ...row, bytesPerSecond, etaSeconds: etaSeconds(row, bytesPerSecond) }
    },
  }
}

/** Null while it cannot be told. */
export const etaSeconds = (
  row: { readonly bytesDone: number; readonly bytesTotal: number | null },
  bytesPerSecond: number,
): number | null => {
  if (row.bytesTotal === null) return null
  const missing = Math.max(0, row.bytesTotal - row.bytesDone)
  if (missing === 0) return 0
  return bytesPerSecond > 0 ? Math.ceil(missing / bytesPerSecond) : null
}
