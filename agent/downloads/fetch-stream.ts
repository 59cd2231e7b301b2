import { backoffMs, LONGEST_WAIT_MS } from '../../shared/sources/retry-after.ts'
import { createInspector } from './content-check.ts'
import { holdBack, receiveBody } from './receive-body.ts'
import { PassingFailure, RenewedAddress, requestRange } from './request-range.ts'
import type { TransferJob } from './transfer-job.ts'

const STREAM_ATTEMPTS = 5

/**
 * One stream from the first byte; a broken one starts over, since its server cannot continue it.
 * @throws AgentError from the source, the content checks or the disk; the signal's reason
 */
export const fetchStream = async (job: TransferJob, signal: AbortSignal): Promise<void> => {
  const range = { start: 0, end: job.source.sizeBytes ?? Number.MAX_SAFE_INTEGER }
  job.onConnections(1)
  try {
    for (let failures = 1; ;) {
      await job.part.restart()
      job.onRestart()
      const inspect = createInspector({ name: job.name, sizeBytes: job.source.sizeBytes }, job.part)
      try {
        const accepted = await requestRange(job, { range, signal })
        const end = await receiveBody(job, {
          accepted,
          end: () => range.end,
          signal,
          hold: job.bandwidth && ((bytes) => holdBack(job, { bytes, signal })),
          onWritten: inspect,
        })
        if (job.source.sizeBytes === null) await job.part.finish(end)
        return
      } catch (error) {
        if (error instanceof RenewedAddress) continue
        if (!(error instanceof PassingFailure)) throw error
        const delayMs = error.askedMs ?? backoffMs(failures)
        if (failures >= STREAM_ATTEMPTS || delayMs > LONGEST_WAIT_MS) throw error.why
        failures += 1
        job.onRetry()
        await job.clock.sleep(delayMs, signal)
      }
    }
  } finally {
    job.onConnections(0)
  }
}
