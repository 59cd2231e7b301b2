import type { DownloadRow } from '../shared/contract/records.ts'
import type { Api } from './api.ts'
import { followEvents } from './event-stream.ts'
import type { Output } from './output/output.ts'
import type { ProgressItem } from './output/progress.ts'

const MOVING = new Set(['resolving', 'downloading', 'verifying', 'waiting'])

/** Shows what the box fetches or reads, as `apply` does, until the work is answered. */
export const showDownloads = async <T>(
  work: Promise<T>,
  context: { readonly api: Api; readonly output: Output; readonly signal: AbortSignal },
): Promise<T> => {
  const over = new AbortController()
  const showing = show({ ...context, signal: AbortSignal.any([context.signal, over.signal]) })
  try {
    return await work
  } finally {
    over.abort()
    await showing
  }
}

const show = async (context: {
  readonly api: Api
  readonly output: Output
  readonly signal: AbortSignal
}): Promise<void> => {
  const view = context.output.progress()
  const quiet = (): void => undefined
  try {
    for await (const { event, data } of followEvents(undefined, {
      ...context,
      onBroken: quiet,
      onBack: quiet,
    })) {
      if (event !== 'progress') continue
      const { downloads } = data as { readonly downloads: readonly DownloadRow[] }
      const items = downloads
        .filter((row) => MOVING.has(row.state))
        .map((row): ProgressItem => ({ ...row, name: row.to }))
      const [first, ...others] = items
      if (first) view.show({ whole: first, items: others })
    }
  } catch {
    // It is only shown; the work itself says what fails.
  } finally {
    view.close()
  }
}
