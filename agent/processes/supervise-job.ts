import type { Problem } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import { processProblem } from './describe-end.ts'
import { followReadiness } from './follow-readiness.ts'
import { watchComfyUI } from './kinds/comfyui/watch-comfyui.ts'
import { untilStalled } from './kinds/watch-stall.ts'
import type { ProcessDeps } from './process-deps.ts'
import type { RunningJob } from './running-job.ts'
import { logEnd } from './shim/log-files.ts'

type Supervision = Pick<ProcessDeps, 'folder' | 'clock' | 'readGpuLoad' | 'track'> & {
  readonly name: string
  /** What is wrong from the start and does not keep it from its work. */
  readonly warning: Problem | null
  /** Aborted when the job has ended. */
  readonly signal: AbortSignal
  /** Something about it is another now. */
  readonly onChange: () => void
  /** It must be ended, and counts as failed. */
  readonly onFailure: (problem: Problem) => void
}

/** Sets everybody to watch who has something to watch in a job that runs; each goes on until the job has ended. */
export const superviseJob = (job: RunningJob, context: Supervision): void => {
  const { name, folder, clock, signal, warning, track, onChange, onFailure } = context
  const { logStart, proof } = job
  const { readiness, stallMs, proof: comfyui } = job.spec.plan
  track(
    followReadiness(job.told.state, {
      ...{ name, folder, clock, readiness, logStart, signal },
      prove: () => proof.look({ folder, logStart, clock, signal }),
      onState: (state, problem) => {
        job.told = { state, problem: problem ?? warning }
        onChange()
      },
    }),
  )
  if (comfyui !== null)
    track(
      watchComfyUI({
        ...{ name, folder, clock, signal, logStart, stallMs, onFault: onFailure },
        url: comfyui.url,
        readGpuLoad: context.readGpuLoad,
        onQueue: (queue) => (job.queue = queue),
        onHang: (problem) => {
          job.hang = problem
          onChange()
        },
      }),
    )
  else if (stallMs !== null)
    track(
      untilStalled({ ...context, stallMs, signs: () => logEnd(folder) }).then((gpu) => {
        const message = `${name} has printed nothing for ${formatDuration(stallMs)}, ${gpu}; it was ended`
        onFailure(processProblem('process_stalled', { name, message }))
      }),
    )
}
