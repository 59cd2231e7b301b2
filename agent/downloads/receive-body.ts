import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import { type Accepted, PassingFailure } from './request-range.ts'
import type { TransferJob } from './transfer-job.ts'

export type Receiving = {
  readonly signal: AbortSignal
  /** Where to stop: another connection may have taken over the end of the range. */
  readonly end: () => number
  /** Waits while a limit holds the bytes back that have come; null without a limit. */
  readonly hold: ((bytes: number) => Promise<void>) | null
  /** Called with the first byte that is not yet written, each time it moves. */
  readonly onWritten: (position: number) => Promise<void>
}

/**
 * Writes a body to its place in the partial file, never beyond the end of its range, and returns where it stopped.
 * What arrived before a failure is written too.
 * @throws PassingFailure when the body breaks off; AgentError from the disk or the content checks
 */
export const receiveBody = async (
  job: TransferJob,
  context: Receiving & { readonly accepted: Accepted },
): Promise<number> => {
  const { accepted, signal } = context
  const { range, reply } = accepted
  let position = range.start
  try {
    for (;;) {
      const piece = await nextPiece(job, { accepted, signal })
      if (piece === undefined) break
      // More than was announced, or than is still wanted: nothing may spill into the neighbouring range.
      const room = Math.max(0, Math.min(range.end, context.end()) - position)
      const bytes = piece.byteLength > room ? piece.subarray(0, room) : piece
      if (bytes.byteLength > 0) {
        if (context.hold) await context.hold(bytes.byteLength)
        await job.part.write(bytes, position)
        position += bytes.byteLength
        job.onBytes(bytes.byteLength)
        await context.onWritten(position)
      }
      if (position >= context.end() || piece.byteLength > room) break
    }
  } finally {
    reply.discard()
  }
  const wanted = Math.min(range.end, context.end())
  if (wanted !== Number.MAX_SAFE_INTEGER && position < wanted)
    throw brokeOff(job, `it ended after ${position - range.start} bytes`)
  return position
}

/** Waits for the turn of this file where there is a limit. */
export const holdBack = async (
  job: TransferJob,
  { bytes, signal }: { readonly bytes: number; readonly signal: AbortSignal },
): Promise<void> => {
  await job.bandwidth?.take(job.part.path, bytes, signal)
}

const nextPiece = async (
  job: TransferJob,
  { accepted, signal }: { readonly accepted: Accepted; readonly signal: AbortSignal },
): Promise<Uint8Array | undefined> => {
  try {
    const piece = await accepted.reply.read()
    signal.throwIfAborted()
    return piece
  } catch (error) {
    signal.throwIfAborted()
    throw brokeOff(job, errorText(error))
  }
}

const brokeOff = (job: TransferJob, why: string): PassingFailure =>
  new PassingFailure(
    new AgentError('source_unavailable', `${job.source.reference}: the connection broke off: ${why}`),
  )
