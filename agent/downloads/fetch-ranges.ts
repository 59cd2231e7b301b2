import { AgentError } from '../../shared/contract/errors.ts'
import { type Crew, runConnection, ServesNoRanges } from './connection.ts'
import { createInspector } from './content-check.ts'
import type { Line } from './line.ts'
import { isWorthSharing, shareRange, SMALLEST_SHARE } from './share-range.ts'
import { createDropBudget, findSlowLines } from './slow-lines.ts'
import type { TransferJob } from './transfer-job.ts'

/** One source of the file, with what was learnt about it. */
type Lane = {
  readonly job: TransferJob
  readonly running: Set<Promise<void>>
  readonly stop: AbortController
  proven: boolean
  wholeAnswers: number
  /** Why it was given up. */
  lastError: unknown
}

/**
 * Fetches what is missing in ranges, over one connection to a source until it has served a range as asked, then over as
 * many as are worth having. Several sources, proven to hold the same file, take part side by side; one that fails is
 * left out while another one works.
 * @throws AgentError from the source, the content checks or the disk; ServesNoRanges; the signal's reason
 */
export const fetchRanges = async (jobs: readonly TransferJob[], signal: AbortSignal): Promise<void> => {
  const [first] = jobs
  if (first === undefined) return
  const { clock, limits } = first
  const { book } = first.part
  const inspect = createInspector({ name: first.name, sizeBytes: first.source.sizeBytes }, first.part)
  // The first failure that cannot pass ends all connections of this file at once.
  const stop = new AbortController()
  const lines = new Set<Line>()
  const lanes = jobs.map((job): Lane => ({
    job,
    running: new Set(),
    stop: new AbortController(),
    proven: job.source.acceptsRanges === true,
    wholeAnswers: 0,
    lastError: undefined,
  }))
  const alive = (): Lane[] => lanes.filter((lane) => !lane.stop.signal.aborted)
  const running = (): Promise<void>[] => lanes.flatMap((lane) => [...lane.running])
  const showConnections = (): void => first.onConnections(running().length)

  const segment = (): number => {
    const wide = Math.ceil(book.freeBytes() / (2 * Math.max(4, running().length)))
    return Math.min(limits.segmentBytes, Math.max(SMALLEST_SHARE, wide))
  }

  const crewOf = (lane: Lane): Crew => ({
    take: (ownSpeed) => book.take(segment()) ?? shareRange([...lines], { ownSpeed }),
    mayLeave: () => running().length > 1 && lane.job.pace.isOverfull(),
    isAlone: () => running().length <= 1,
    inspect,
    lines,
    onRange: () => {
      lane.wholeAnswers = 0
      lane.proven = true
      grow()
    },
    // One bad edge of a content network may ignore a range; twice in a row it is the server.
    onWhole: () => (lane.wholeAnswers += 1) >= 2,
    signal: AbortSignal.any([signal, stop.signal, lane.stop.signal]),
  })

  const fail = (lane: Lane, error: unknown): void => {
    if (lane.stop.signal.aborted) return
    lane.lastError = error
    const others = alive().some((other) => other !== lane)
    if (others && !isLocal(error)) {
      lane.stop.abort(error)
      lane.job.onSourceFailed(error)
    } else if (!mayPass(error)) stop.abort(error)
  }

  const start = (lane: Lane): void => {
    lane.job.pace.opened()
    const run = runConnection(lane.job, crewOf(lane))
      .catch((error: unknown) => fail(lane, error))
      .finally(() => {
        lane.job.pace.closed()
        lane.running.delete(run)
        showConnections()
      })
    lane.running.add(run)
    showConnections()
  }

  /** True when one more connection to this source would be welcome there. Until it is proven, one finds out. */
  const mayGrow = (lane: Lane): boolean =>
    lane.running.size === 0 ||
    (lane.proven && lane.running.size < limits.connections && lane.job.pace.mayOpen())

  const grow = (): void => {
    let places = Math.ceil(book.freeBytes() / SMALLEST_SHARE)
    if (places === 0 && isWorthSharing([...lines])) places = 1
    for (; places > 0; places -= 1) {
      const [next] = alive()
        .filter(mayGrow)
        .toSorted((a, b) => a.running.size - b.running.size)
      if (next === undefined || running().length >= limits.connections) return
      start(next)
    }
  }

  /** Looks at the speeds now and then: gives up connections that are too slow, opens some where that helps. */
  const watch = async (until: AbortSignal): Promise<void> => {
    const drops = createDropBudget(() => clock.monotonicMs(), limits.slow)
    for (const isOver = (): boolean => until.aborted; !isOver();) {
      await clock.sleep(limits.slow.tickMs, until).catch(() => undefined)
      for (const line of lines) line.sample()
      const slow = findSlowLines([...lines], { rules: limits.slow, isTail: book.freeBytes() === 0 })
      const most = Math.max(1, Math.floor(lines.size / 4))
      if (slow.length > 0 && drops.take()) for (const { line, why } of slow.slice(0, most)) line.drop(why)
      if (!isOver() && !signal.aborted && !stop.signal.aborted && running().length > 0) grow()
    }
  }

  const ended = new AbortController()
  const watching = watch(ended.signal)
  try {
    while (!book.isComplete()) {
      for (const lane of lanes) lane.lastError = undefined
      const before = book.doneBytes()
      grow()
      for (let open = running(); open.length > 0; open = running()) await Promise.all(open)
      signal.throwIfAborted()
      stop.signal.throwIfAborted()
      // Connections that gave up left their ranges behind; as long as bytes arrive, others take them.
      const failure = lanes.find((lane) => lane.lastError instanceof Error)?.lastError
      if (failure instanceof Error && book.doneBytes() === before) throw failure
    }
  } finally {
    ended.abort()
    await watching
  }
}

const mayPass = (error: unknown): boolean =>
  error instanceof AgentError && (error.code === 'source_unavailable' || error.code === 'rate_limited')

/** What another source would meet too. */
const isLocal = (error: unknown): boolean =>
  !(error instanceof ServesNoRanges) &&
  (!(error instanceof AgentError) ||
    ['disk_full', 'read_only', 'io_error', 'destination_invalid', 'internal'].includes(error.code))
