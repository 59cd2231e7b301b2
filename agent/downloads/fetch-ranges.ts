import { AgentError } from '../../shared/contract/errors.ts'
import { type Crew, runConnection } from './connection.ts'
import { createInspector } from './content-check.ts'
import type { TransferJob } from './transfer-job.ts'

/** Below this a second connection costs more than it brings. */
const SMALLEST_SEGMENT = 2 ** 20

/**
 * Fetches what is missing in ranges, over one connection until the server has served a range as asked, then several.
 * @throws AgentError from the source, the content checks or the disk; ServesNoRanges; the signal's reason
 */
export const fetchRanges = async (job: TransferJob, signal: AbortSignal): Promise<void> => {
  const { book } = job.part
  const inspect = createInspector({ name: job.name, sizeBytes: job.source.sizeBytes }, job.part)
  // The first failure that cannot pass ends all connections of this file at once.
  const stop = new AbortController()
  const running = new Set<Promise<void>>()
  let proven = job.source.acceptsRanges === true
  let wholeAnswers = 0
  let lastError: unknown

  const crew: Crew = {
    segment: () =>
      Math.min(
        job.limits.segmentBytes,
        Math.max(SMALLEST_SEGMENT, Math.ceil(book.freeBytes() / (2 * job.limits.connections))),
      ),
    isAlone: () => running.size <= 1,
    inspect,
    onRange: () => {
      wholeAnswers = 0
      proven = true
      grow()
    },
    // One bad edge of a content network may ignore a range; twice in a row it is the server.
    onWhole: () => (wholeAnswers += 1) >= 2,
    signal: AbortSignal.any([signal, stop.signal]),
  }

  const start = (): void => {
    const run = runConnection(job, crew)
      .catch((error: unknown) => {
        lastError = error
        if (!mayPass(error)) stop.abort(error)
      })
      .finally(() => {
        running.delete(run)
        job.onConnections(running.size)
      })
    running.add(run)
    job.onConnections(running.size)
  }
  // Until a range was served as asked, one connection finds out.
  const wanted = (): number => (proven ? job.limits.connections : 1)
  const grow = (): void => {
    let places = Math.ceil(book.freeBytes() / SMALLEST_SEGMENT)
    while (running.size < wanted() && places > 0) {
      start()
      places -= 1
    }
  }

  while (!book.isComplete()) {
    lastError = undefined
    const before = book.doneBytes()
    grow()
    while (running.size > 0) await Promise.all(running)
    signal.throwIfAborted()
    stop.signal.throwIfAborted()
    // Connections that gave up left their ranges behind; as long as bytes arrive, others take them.
    if (lastError instanceof Error && book.doneBytes() === before) throw lastError
  }
}

const mayPass = (error: unknown): boolean =>
  error instanceof AgentError && (error.code === 'source_unavailable' || error.code === 'rate_limited')
