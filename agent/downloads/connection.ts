import { AgentError } from '../../shared/contract/errors.ts'
import { backoffMs, LONGEST_WAIT_MS } from '../../shared/sources/retry-after.ts'
import type { ByteRange } from './byte-ranges.ts'
import { receiveBody } from './receive-body.ts'
import { PassingFailure, RenewedAddress, requestRange } from './request-range.ts'
import type { TransferJob } from './transfer-job.ts'

/** The server sends the whole file whatever range is asked for. */
export class ServesNoRanges extends Error {}

export type Crew = {
  /** How many bytes the next request should ask for. */
  segment(): number
  /** True while no other connection fetches this file. */
  isAlone(): boolean
  /** A range was served as asked. */
  onRange(): void
  /** The range was ignored; true when that has happened often enough to believe it. */
  onWhole(): boolean
  /** Looks at the first bytes, once they are there. */
  inspect(): Promise<void>
  readonly signal: AbortSignal
}

/** Failures in a row, without a byte between them, after which a connection gives up. */
const MOST_FAILURES = 6

/**
 * Fetches missing ranges one after the other until none are left. What fails for a moment is tried again after what the
 * server asks for; the range is given back first, so that another connection can take it meanwhile.
 * @throws AgentError, ServesNoRanges
 */
export const runConnection = async (job: TransferJob, crew: Crew): Promise<void> => {
  for (let failures = 0; ;) {
    crew.signal.throwIfAborted()
    const range = job.part.book.take(crew.segment())
    if (range === undefined) return
    const failed = await fetchRange(range, { job, crew })
    if (failed === undefined) {
      failures = 0
      continue
    }
    failures = failed.wroteBytes > 0 ? 1 : failures + 1
    const delayMs = failed.failure.askedMs ?? backoffMs(failures)
    if (failures >= MOST_FAILURES || delayMs > LONGEST_WAIT_MS) throw failed.failure.why
    job.onRetry()
    await job.clock.sleep(delayMs, crew.signal)
  }
}

/** Fetches as much of a range as comes, gives the rest back, and says what failed if that may pass. */
const fetchRange = async (
  range: ByteRange,
  context: { readonly job: TransferJob; readonly crew: Crew },
): Promise<{ readonly failure: PassingFailure; readonly wroteBytes: number } | undefined> => {
  const { job, crew } = context
  const { book } = job.part
  let { start: missing, end } = range
  try {
    const accepted = await requestRange(job, { range, signal: crew.signal })
    if (!accepted.whole) crew.onRange()
    else if (range.start === 0 && crew.isAlone() && book.doneBytes() === 0) {
      // The first answer is the whole file: it is as good as a range of everything.
      book.take(Infinity)
      end = accepted.range.end
    } else {
      accepted.reply.discard()
      if (crew.onWhole()) throw new ServesNoRanges()
      throw new PassingFailure(
        new AgentError('source_unavailable', `${job.source.reference}: the server ignored a range`),
      )
    }
    await receiveBody(job, {
      accepted,
      end: () => end,
      signal: crew.signal,
      onWritten: async (position) => {
        missing = position
        await crew.inspect()
      },
    })
    return undefined
  } catch (error) {
    if (error instanceof RenewedAddress) return undefined
    if (!(error instanceof PassingFailure)) throw error
    return { failure: error, wroteBytes: missing - range.start }
  } finally {
    book.giveBack({ start: missing, end })
  }
}
