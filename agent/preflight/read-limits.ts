import { readFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'

/** What the container allows, which is often less than the machine shows. Null: no limit, or none that can be read. */
export type Limits = {
  /** Processes and threads together. */
  readonly tasks: number | null
  /** Processors' worth of time. */
  readonly processors: number | null
  readonly processorsShown: number
}

/** The limits of the agent's own control group: version 2, else version 1. */
export const readLimits = async (root = '/sys/fs/cgroup'): Promise<Limits> => {
  const [tasks, tasksOld, quota, quotaOld, periodOld] = await Promise.all(
    ['pids.max', 'pids/pids.max', 'cpu.max', 'cpu/cpu.cfs_quota_us', 'cpu/cpu.cfs_period_us'].map((name) =>
      readFile(join(root, name), 'utf8').catch(() => ''),
    ),
  )
  const [share = '', period = ''] = quota === '' ? [quotaOld, periodOld] : (quota ?? '').trim().split(/\s+/)
  return {
    tasks: numberOrNull(tasks === '' ? tasksOld : tasks),
    processors: ratioOrNull(numberOrNull(share), numberOrNull(period)),
    processorsShown: Math.max(cpus().length, availableParallelism()),
  }
}

/** `max`, -1 and what is not there are no limit. */
const numberOrNull = (text: string | undefined): number | null =>
  text !== undefined && /^\d+$/.test(text.trim()) ? Number(text) : null

const ratioOrNull = (part: number | null, whole: number | null): number | null =>
  part === null || whole === null || whole === 0 ? null : part / whole
