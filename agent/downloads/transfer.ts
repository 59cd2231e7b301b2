import { ServesNoRanges } from './connection.ts'
import { fetchRanges } from './fetch-ranges.ts'
import { fetchStream } from './fetch-stream.ts'
import type { TransferJob } from './transfer-job.ts'

/**
 * Completes the partial file from one source, or from several that hold the same: ranges over several connections where the source serves ranges, one
 * stream from the start where it does not. Whatever it wrote stays in the partial file when it fails.
 * @throws AgentError from the source (see shared/sources), the content checks or the disk; the signal's reason
 */
export const transfer = async (
  jobs: readonly [TransferJob, ...TransferJob[]],
  context: { readonly signal: AbortSignal },
): Promise<void> => {
  const [job] = jobs
  if (job.source.sizeBytes === 0 || job.part.book.isComplete()) return
  if (job.source.sizeBytes !== null && job.source.acceptsRanges !== false) {
    try {
      await fetchRanges(jobs, context.signal)
      return
    } catch (error) {
      if (!(error instanceof ServesNoRanges)) throw error
      job.onRetry()
    }
  }
  await fetchStream(job, context.signal)
}
