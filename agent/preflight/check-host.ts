import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import { CLOCK_TOLERANCE_MS } from '../../shared/preflight/watch-clock.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Facts } from './facts.ts'

/**
 * A host showed 384 cores and allowed 1024 tasks: libraries started a thread for each core, and died where none could be
 * made any more. Fewer than this is met by one training process with its loaders.
 */
const FEW_TASKS = 2048

/** What the host allows and what its clock says: things that fail much later, and look like something else. */
export const checkHost = (
  manifest: Manifest,
  { limits, clockAheadMs }: Pick<Facts, 'limits' | 'clockAheadMs'>,
): readonly Problem[] => {
  const problems: Problem[] = []
  const add = (code: Problem['code'], subject: string, message: string): void => {
    problems.push(problemFrom(new AgentError(code, message), subject, 'warning'))
  }
  const isRunning = Object.keys(manifest.processes).length > 0
  if (isRunning && limits.tasks !== null && limits.tasks < FEW_TASKS)
    add(
      'few_tasks',
      'box',
      `the container allows ${limits.tasks} processes and threads; the machine shows ${limits.processorsShown} ` +
        `processors${limits.processors === null ? '' : ` and allows ${limits.processors.toFixed(1)} of them`}`,
    )
  if (clockAheadMs !== null && Math.abs(clockAheadMs) > CLOCK_TOLERANCE_MS)
    add(
      'clock_skewed',
      'box',
      `the clock of the box is ${formatDuration(Math.abs(clockAheadMs))} ${clockAheadMs > 0 ? 'ahead' : 'behind'}`,
    )
  return problems
}
