import { AgentError } from '../../shared/contract/errors.ts'
import { backoffMs, LONGEST_WAIT_MS } from '../../shared/sources/retry-after.ts'
import type { ByteRange } from './byte-ranges.ts'
import { createLine, DroppedLine, type Line } from './line.ts'
import { holdBack, receiveBody } from './receive-body.ts'
import { PassingFailure, RenewedAddress, requestRange } from './request-range.ts'
import type { TransferJob } from './transfer-job.ts'

/** The server sends the whole file whatever range is asked for. */
export class ServesNoRanges extends Error {}

/** What a connection shares with the others of its file. */
export type Crew = {
  /** The next range to fetch: missing bytes, or a part of what another connection has before it. */
  take(ownSpeed: number | undefined): ByteRange | undefined
  /** True when fewer connections would do. */
  mayLeave(): boolean
  /** True while no other connection fetches this file. */
  isAlone(): boolean
  /** A range was served as asked. */
  onRange(): void
  /** The range was ignored; true when that has happened often enough to believe it. */
  onWhole(): boolean
  /** A line begins or ends. */
  readonly lines: Set<Line>
  /** Looks at the first bytes, once they are there. */
  inspect(): Promise<void>
  readonly signal: AbortSignal
}

/** Failures in a row, without progress between them, after which a connection gives up. */
const MOST_FAILURES = 6
/** Fewer bytes than this between two failures are no progress: a drip would go on for ever. */
const PROGRESS_BYTES = 64 * 2 ** 10

/**
 * Fetches missing ranges one after the other until none are left. What fails for a moment is tried again after what the
 * server asks for; the range is given back first, so that another connection can take it meanwhile.
 * @throws AgentError, ServesNoRanges
 */
export const runConnection = async (job: TransferJob, crew: Crew): Promise<void> => {
  let speed: number | undefined
  for (let failures = 0; ;) {
    crew.signal.throwIfAborted()
    if (crew.mayLeave()) return
    const range = crew.take(speed)
    if (range === undefined) return
    const startedMs = job.clock.monotonicMs()
    const ended = await fetchRange(range, { job, crew })
    speed = ended.wroteBytes / Math.max(1, job.clock.monotonicMs() - startedMs)
    if (ended.failure === undefined) {
      failures = 0
      continue
    }
    failures = ended.wroteBytes >= PROGRESS_BYTES ? 1 : failures + 1
    const delayMs = ended.failure.askedMs ?? backoffMs(failures)
    if (failures >= MOST_FAILURES || delayMs > LONGEST_WAIT_MS) throw ended.failure.why
    job.onRetry()
    await job.clock.sleep(delayMs, crew.signal)
  }
}

type Ended = { readonly failure?: PassingFailure; readonly wroteBytes: number }

/** Fetches as much of a range as comes, gives the rest back, and says what failed if that may pass. */
const fetchRange = async (
  range: ByteRange,
  { job, crew }: { readonly job: TransferJob; readonly crew: Crew },
): Promise<Ended> => {
  const { book } = job.part
  const line = createLine(job, { ...range, signal: crew.signal })
  let wholeEnd: number | undefined
  const wroteBytes = (): number => line.position() - range.start
  crew.lines.add(line)
  try {
    const accepted = await requestRange(job, { range, signal: line.signal })
    if (!accepted.whole) crew.onRange()
    else if (range.start === 0 && crew.isAlone() && book.doneBytes() === 0) {
      // The first answer is the whole file: it is as good as a range of everything.
      book.take(Infinity)
      wholeEnd = accepted.range.end
    } else {
      accepted.reply.discard()
      if (crew.onWhole()) throw new ServesNoRanges()
      throw new PassingFailure(
        new AgentError('source_unavailable', `${job.source.reference}: the server ignored a range`),
      )
    }
    await receiveBody(job, {
      accepted,
      end: () => wholeEnd ?? line.end(),
      signal: line.signal,
      hold: job.bandwidth && ((bytes) => line.hold(holdBack(job, { bytes, signal: line.signal }))),
      onWritten: async (position) => {
        line.move(position)
        await crew.inspect()
      },
    })
    return { wroteBytes: wroteBytes() }
  } catch (error) {
    if (error instanceof RenewedAddress) return { wroteBytes: wroteBytes() }
    if (error instanceof DroppedLine) {
      // Its place is taken at once, over another connection; only one that hardly moved counts as a failure.
      job.onRetry()
      return error.why === 'slow'
        ? { wroteBytes: wroteBytes() }
        : { wroteBytes: wroteBytes(), failure: tooSlow(job) }
    }
    if (!(error instanceof PassingFailure)) throw error
    return { failure: error, wroteBytes: wroteBytes() }
  } finally {
    crew.lines.delete(line)
    book.giveBack({ start: line.position(), end: wholeEnd ?? line.end() })
  }
}

const tooSlow = (job: TransferJob): PassingFailure =>
  new PassingFailure(
    new AgentError('source_unavailable', `${job.source.reference}: the connection hardly moves`),
  )
