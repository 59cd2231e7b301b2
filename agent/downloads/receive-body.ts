import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import { type Accepted, PassingFailure } from './request-range.ts'
import type { TransferJob } from './transfer-job.ts'

/** TLS hands over 16 KiB at a time; written one by one these cost more than the decryption. */
export const SLAB_BYTES = 2 ** 20

export type Receiving = {
  /** A buffer of the connection's own, used again for every range. */
  readonly slab: Buffer
  readonly signal: AbortSignal
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
  const { slab, accepted, signal } = context
  const { range, reply } = accepted
  let position = range.start
  let filled = 0
  const flush = async (): Promise<void> => {
    if (filled === 0) return
    const bytes = slab.subarray(0, filled)
    filled = 0
    await job.part.write(bytes, position)
    position += bytes.length
    job.onBytes(bytes.length)
    await context.onWritten(position)
  }

  try {
    for await (const chunk of reply.body) {
      const room = range.end - position - filled
      const bytes = chunk.byteLength > room ? chunk.subarray(0, room) : chunk
      for (let at = 0; at < bytes.byteLength;) {
        const part = bytes.subarray(at, at + slab.length - filled)
        slab.set(part, filled)
        filled += part.byteLength
        at += part.byteLength
        if (filled === slab.length) await flush()
      }
      // More than was announced: nothing may spill into the neighbouring range.
      if (chunk.byteLength > room) break
    }
  } catch (error) {
    await flush()
    signal.throwIfAborted()
    throw error instanceof AgentError ? error : brokeOff(job, errorText(error))
  } finally {
    reply.discard()
  }
  await flush()
  const open = range.end === Number.MAX_SAFE_INTEGER
  if (!open && position < range.end) throw brokeOff(job, `it ended after ${position - range.start} bytes`)
  return position
}

const brokeOff = (job: TransferJob, why: string): PassingFailure =>
  new PassingFailure(
    new AgentError('source_unavailable', `${job.source.reference}: the connection broke off: ${why}`),
  )
