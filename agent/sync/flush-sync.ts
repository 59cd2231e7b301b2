import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { FlushRecord } from '../../shared/contract/records.ts'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import type { Clock } from '../platform/clock.ts'
import type { CopyMeter } from './copy-meter.ts'
import type { FlushContext } from './flush-units.ts'
import { flushUnits, reportFlush } from './flush-units.ts'
import type { Survey } from './survey.ts'
import type { InTurn } from './take-turns.ts'

export type FlushOptions = {
  /** When it has to be over, in milliseconds from now. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** Larger units are left alone: an agent that is only restarted goes on with them. */
  readonly largestUnitBytes?: number
}

export type FlushDeps = Pick<FlushContext, 'copy' | 'putSmallFiles'> & {
  readonly clock: Clock
  readonly report: Report
  readonly inTurn: InTurn
  readonly meter: CopyMeter
  readonly survey: Survey
  /** Ends the pass under way. */
  readonly interrupt: (reason: Error) => void
}

/** More than this nobody reads. */
const TOLD_UNITS = 20
const LOOK_EVERY_MS = 1_000
/** What a copy under way may take of the time that is left. */
const COPY_SHARE = 0.8

/** The flush of one sync: takes its turn before what a pass still has to do, and ends at its deadline. */
export const createFlush = (spec: SyncSpec, deps: FlushDeps) => {
  const { clock, meter, survey } = deps
  let asked = 0

  const run = async (options: FlushOptions): Promise<FlushRecord> => {
    const { deadlineMs } = options
    const endsAtMs = clock.monotonicMs() + deadlineMs
    const late = new AgentError('deadline', `the flush had ${Math.ceil(deadlineMs / 1000)} s`)
    const deadline = new AbortController()
    const timer = setTimeout(() => {
      deadline.abort(late)
      deps.interrupt(late)
    }, deadlineMs)
    const signal = AbortSignal.any([options.signal, deadline.signal])
    const context: FlushContext = {
      ...deps,
      sync: spec.name,
      endsAtMs,
      signal,
      largestUnitBytes: options.largestUnitBytes ?? Number.POSITIVE_INFINITY,
      look: async (lookSignal) => {
        await survey.look(lookSignal)
        return survey.pending()
      },
      pending: survey.pending,
      bytesPerSecond: meter.lastBytesPerSecond,
    }
    let report: FlushRecord | undefined
    /** A copy under way is ended, unless it will be done in time; the first bytes of one promise more than is kept. */
    const makeRoom = (): void => {
      if (meter.leftMs() > COPY_SHARE * (endsAtMs - clock.monotonicMs()))
        deps.interrupt(new AgentError('interrupted', `${spec.name} is flushed`))
    }
    const looks = setInterval(makeRoom, LOOK_EVERY_MS)
    try {
      makeRoom()
      await deps.inTurn(signal, async () => {
        clearInterval(looks)
        report = await flushUnits(context)
      })
    } catch (error) {
      // It never had its turn; what the last look saw is what there is to report.
      report = reportFlush(context, { problem: problemFrom(error, spec.name) })
    } finally {
      clearTimeout(timer)
      clearInterval(looks)
    }
    report ??= reportFlush(context, {})
    tell(spec.name, report, deps.report)
    return report
  }

  return {
    /** True while a flush waits for its turn or works: a pass begins no further copy. */
    isAsked: (): boolean => asked > 0,
    /** Never throws for what a remote does, nor when it is aborted: the report says what is left. */
    run: async (options: FlushOptions): Promise<FlushRecord> => {
      asked += 1
      try {
        return await run(options)
      } finally {
        asked -= 1
      }
    },
  }
}

const tell = (subject: string, { stored, left, leftBytes, problems }: FlushRecord, report: Report): void => {
  if (stored.length + left.length + problems.length === 0) return
  report({
    type: 'sync.flushed',
    subject,
    data: {
      stored: stored.slice(0, TOLD_UNITS).map(({ unit }) => unit),
      left: left.slice(0, TOLD_UNITS).map(({ unit, sizeBytes, reason }) => ({ unit, sizeBytes, reason })),
      leftBytes,
      problem: problems[0] ?? null,
    },
  })
}
