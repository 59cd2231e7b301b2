import type { Problem } from '../../../../shared/contract/errors.ts'
import type { ProcessQueue } from '../../../../shared/contract/records.ts'
import { formatDuration } from '../../../../shared/contract/units.ts'
import type { Clock } from '../../../platform/clock.ts'
import { processProblem } from '../../describe-end.ts'
import { readOutput } from '../../output-log.ts'
import { logEnd } from '../../shim/log-files.ts'
import { createOutputStripper } from '../../strip-output.ts'
import type { ReadGpuLoad } from '../watch-stall.ts'
import { untilAlive, untilStalled } from '../watch-stall.ts'
import { followQueue } from './follow-queue.ts'
import { readConsole } from './read-console.ts'

type ComfyUIWatch = {
  readonly name: string
  /** The address on loopback, with a slash at its end. */
  readonly url: string
  /** The process's log, and where in it this job begins. */
  readonly folder: string
  readonly logStart: number
  /** How long a job may make no progress; null: for ever. */
  readonly stallMs: number | null
  readonly readGpuLoad: ReadGpuLoad
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly onQueue: (queue: ProcessQueue | null) => void
  /** A problem when it hangs, null when it goes on. */
  readonly onHang: (problem: Problem | null) => void
  /** It can do no work any more until it is started anew. */
  readonly onFault: (problem: Problem) => void
}

/** An agent that comes back looks this far behind the end of the log for a fault that it missed. */
const MISSED_BYTES = 2 ** 20
const LONGEST_LINE = 8_192

/** Follows what a ComfyUI that answers works on, whether that goes on, and whether it still can. Ends with the signal. */
export const watchComfyUI = async (watch: ComfyUIWatch): Promise<void> => {
  let queue: ProcessQueue | null = null
  let steps = 0
  const setQueue = (next: ProcessQueue | null): void => {
    queue = next
    watch.onQueue(next)
  }
  const onProgress = (progress: NonNullable<ProcessQueue['progress']>): void => {
    steps += 1
    if (queue !== null && queue.remaining > 0) setQueue({ ...queue, progress })
  }
  const onRemaining = (remaining: number | null): void => {
    if (remaining === queue?.remaining) return
    // Another number is another job, whose progress is not known yet.
    steps += 1
    setQueue(remaining === null ? null : { remaining, progress: null })
  }

  await Promise.all([
    followQueue(watch.url, { ...watch, onRemaining, onProgress }),
    followConsole(watch, {
      onProgress,
      onFault: (fault) => watch.onFault(faultProblem(watch.name, { fault, jobs: queue?.remaining ?? 0 })),
    }),
    watch.stallMs === null
      ? undefined
      : watchHang(watch, {
          stallMs: watch.stallMs,
          jobs: () => queue?.remaining ?? 0,
          signs: () => `${logEnd(watch.folder)} ${steps}`,
        }),
  ])
}

const watchHang = async (
  watch: ComfyUIWatch,
  work: { readonly stallMs: number; readonly jobs: () => number; readonly signs: () => string },
): Promise<void> => {
  const { name } = watch
  for (;;) {
    const gpu = await untilStalled({ ...watch, ...work, isDue: () => work.jobs() > 0 })
    const still = `has made no progress for ${formatDuration(work.stallMs)}`
    const message = `${name} has ${countJobs(work.jobs())} in its queue and ${still}, ${gpu}`
    watch.onHang(processProblem('process_stalled', { name, message }))
    await untilAlive({ ...watch, ...work })
    watch.onHang(null)
  }
}

const followConsole = async (
  { folder, logStart, clock, signal }: ComfyUIWatch,
  told: {
    readonly onProgress: (progress: NonNullable<ProcessQueue['progress']>) => void
    readonly onFault: (fault: string) => void
  },
): Promise<void> => {
  const stripper = createOutputStripper()
  const fromOffset = Math.max(logStart, logEnd(folder) - MISSED_BYTES)
  let rest = ''
  for await (const { bytes } of readOutput(folder, { fromOffset, clock, signal, follow: () => true })) {
    // The last line may still be growing; it is looked at again together with what follows.
    const text = rest + stripper.push(bytes)
    rest = text.slice(text.lastIndexOf('\n') + 1).slice(-LONGEST_LINE)
    const { progress, fault } = readConsole(text)
    if (progress) told.onProgress(progress)
    if (fault === null) continue
    told.onFault(fault)
    return
  }
}

const faultProblem = (
  name: string,
  { fault, jobs }: { readonly fault: string; readonly jobs: number },
): Problem => {
  const lost = jobs === 0 ? '' : `; ${countJobs(jobs)} of its queue ${jobs === 1 ? 'is' : 'are'} lost`
  return processProblem('cuda_fault', {
    name,
    message: `${name} met an error of CUDA (${fault}), after which every job fails, so it was ended${lost}`,
  })
}

const countJobs = (jobs: number): string => (jobs === 1 ? '1 job' : `${jobs} jobs`)
