import type { DownloadRow, Progress } from '../../shared/contract/records.ts'
import { etaSeconds } from './file-row.ts'

type Readable = { readonly read: () => DownloadRow }

/** What is shown: the files of a manifest while they are fetched and after it, and what was asked for beside it. */
export type Rows = {
  /** A new row, or another one in the place of an older one. `ofSet`: it belongs to a manifest. */
  put(key: string, row: Readable, context?: { readonly ofSet: boolean }): void
  get(key: string): DownloadRow | undefined
  /** A new set begins: what ended before it is not shown any more. */
  beginSet(): void
  readonly all: () => DownloadRow[]
  /** With their keys: the absolute path of a file, `hf://repo@commit` of a snapshot. */
  readonly entries: () => (readonly [string, DownloadRow])[]
  /** The sum of the set; what was asked for beside it does not count. */
  readonly progress: () => Progress
}

export const createRows = (): Rows => {
  const rows = new Map<string, Readable & { readonly ofSet: boolean }>()
  return {
    put: (key, row, context) => {
      rows.set(key, { read: row.read, ofSet: context?.ofSet ?? rows.get(key)?.ofSet ?? false })
    },
    get: (key) => rows.get(key)?.read(),
    beginSet: () => {
      for (const [key, row] of rows)
        if (row.ofSet || ['done', 'failed'].includes(row.read().state)) rows.delete(key)
    },
    all: () => [...rows.values()].map((row) => row.read()),
    entries: () => [...rows].map(([key, row]) => [key, row.read()] as const),
    progress: () => sumUp([...rows.values()].filter((row) => row.ofSet).map((row) => row.read())),
  }
}

const sumUp = (rows: readonly DownloadRow[]): Progress => {
  const bytesDone = rows.reduce((sum, row) => sum + row.bytesDone, 0)
  const bytesTotal = rows.some((row) => row.bytesTotal === null)
    ? null
    : rows.reduce((sum, row) => sum + (row.bytesTotal ?? 0), 0)
  const bytesPerSecond = rows.reduce((sum, row) => sum + row.bytesPerSecond, 0)
  return {
    bytesDone,
    bytesTotal,
    bytesPerSecond,
    etaSeconds: etaSeconds({ bytesDone, bytesTotal }, bytesPerSecond),
  }
}
