import type { ProcessQueue } from '../../shared/contract/records.ts'
import type { ProcessSpec } from '../../shared/manifest/schema.ts'
import type { Clock } from '../platform/clock.ts'
import type { ProcessRecord } from './process-record.ts'

/** Whether a process is in use: what decides that a box is idle. */
export type ProcessActivity = {
  readonly name: string
  /** `unknown` must be taken for in use: a box is never stopped because something could not be asked. */
  readonly busy: boolean | 'unknown'
  /** Completes “NAME …”: `has 2 jobs in its queue`. */
  readonly why: string
}

type ActivityFacts = {
  readonly record: Pick<ProcessRecord, 'name' | 'kind' | 'state'>
  readonly isAlive: boolean
  readonly spec: Pick<ProcessSpec, 'restart'> | undefined
  readonly queue: ProcessQueue | null
  /** People at its terminal. */
  readonly terminals: number
  /** Milliseconds since somebody last used its web page; null: nobody did. */
  readonly webAgeMs: number | null
}

/** Longer than any page waits between two questions to its server. */
const PAGE_IN_USE_MS = 120_000

/** Judges one process. A service that only waits for work is idle: whether it computes is for the GPU to say. Pure. */
export const judgeActivity = (facts: ActivityFacts): ProcessActivity => {
  const { record, isAlive, spec, queue, terminals, webAgeMs } = facts
  const verdict = (busy: ProcessActivity['busy'], why: string): ProcessActivity => ({
    name: record.name,
    busy,
    why,
  })
  if (terminals > 0)
    return verdict(true, terminals === 1 ? 'has a terminal attached' : `has ${terminals} terminals attached`)
  if (webAgeMs !== null && webAgeMs < PAGE_IN_USE_MS) return verdict(true, 'has its web page in use')
  if (['waiting', 'starting', 'stopping'].includes(record.state)) return verdict(true, `is ${record.state}`)
  if (!isAlive) return verdict(false, `is ${record.state}`)
  if (record.state === 'unresponsive') return verdict('unknown', 'is unresponsive')
  if (record.kind === 'comfyui') {
    if (queue === null) return verdict('unknown', 'does not say what is in its queue')
    const jobs = queue.remaining === 1 ? '1 job' : `${queue.remaining} jobs`
    return queue.remaining > 0
      ? verdict(true, `has ${jobs} in its queue`)
      : verdict(false, 'has an empty queue')
  }
  return spec?.restart === 'always' ? verdict(false, 'is a service') : verdict(true, 'is a job that runs')
}

/** Counts who uses a process now: terminals while they are attached, and when its page was asked for last. */
export const createVisits = (clock: Pick<Clock, 'monotonicMs'>) => {
  let terminals = 0
  let webMs: number | null = null
  return {
    /** Somebody attached; settles the count when they have gone. */
    attached: (gone: Promise<unknown>): void => {
      terminals += 1
      const leave = (): void => {
        terminals -= 1
      }
      gone.then(leave, leave)
    },
    web: (): void => {
      webMs = clock.monotonicMs()
    },
    facts: (): Pick<ActivityFacts, 'terminals' | 'webAgeMs'> => ({
      terminals,
      webAgeMs: webMs === null ? null : clock.monotonicMs() - webMs,
    }),
  }
}
