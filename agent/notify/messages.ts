import { z } from 'zod'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { EventRecord } from '../../shared/contract/records.ts'
import { Problem } from '../../shared/contract/records.ts'
import { UNHEALTHY_PROCESS_STATES } from '../../shared/contract/states.ts'
import { formatSize } from '../../shared/contract/units.ts'

/** What the webhook gets: a sentence for people (Slack shows `text`), and fields for programs. */
export type Message = {
  readonly text: string
  readonly severity: 'info' | 'warning' | 'error'
  readonly box: { readonly id: string; readonly hostname: string }
  readonly event: EventRecord
}

type Said = Pick<Message, 'text' | 'severity'>

const Told = z.object({
  to: z.string().optional(),
  state: z.string().optional(),
  problem: Problem.optional().catch(undefined),
  problems: z.array(Problem).optional().catch(undefined),
  reason: z.enum(['cost', 'hours', 'idle']).optional().catch(undefined),
  because: z.string().optional(),
  percent: z.number().optional(),
  stopAt: z.string().optional(),
  spentUsd: z.number().nullable().optional(),
  limitUsd: z.number().nullable().optional(),
  hoursUsed: z.number().optional(),
  limitHours: z.number().nullable().optional(),
  leftBytes: z.number().optional(),
  left: z
    .array(z.object({ unit: z.string() }))
    .optional()
    .catch(undefined),
  failed: z.string().optional(),
})
type Told = z.infer<typeof Told>

/** More than this nobody reads in a chat. */
const MOST_PROBLEMS = 5

/** What an event says to somebody who is away; undefined for what can wait until they look. */
export const sayEvent = (event: EventRecord): Said | undefined => {
  const data = Told.safeParse(event.data).data ?? {}
  switch (event.type) {
    case 'run.state':
      return sayRun(event.subject, data)
    case 'process.state':
      return UNHEALTHY_PROCESS_STATES.some((state) => state === data.state)
        ? error(`process ${event.subject} is ${data.state ?? 'not well'}: agentctl logs ${event.subject}`)
        : undefined
    case 'sync.failed':
      return error(`sync ${event.subject} fails: ${data.problem?.message ?? 'agentctl sync says why'}`)
    case 'sync.recovered':
      return { text: `sync ${event.subject} works again`, severity: 'info' }
    default:
      return sayBudget(event.type, data)
  }
}

const sayRun = (id: string, { to, problems = [] }: Told): Said | undefined => {
  const list = problems.slice(0, MOST_PROBLEMS).map(({ subject, message }) => `\n• ${subject}: ${message}`)
  const more = problems.length > MOST_PROBLEMS ? `\n• and ${problems.length - MOST_PROBLEMS} more` : ''
  if (to === 'ready') return { text: `run ${id} is ready`, severity: 'info' }
  if (to === 'degraded') return { text: `run ${id} is degraded:${list.join('')}${more}`, severity: 'warning' }
  return to === 'failed' ? error(`run ${id} failed:${list.join('')}${more}`) : undefined
}

const REASONS = { cost: 'the cost limit', hours: 'the time limit', idle: 'idleness' } as const

const sayBudget = (type: string, data: Told): Said | undefined => {
  const why = data.reason === undefined ? 'its budget' : REASONS[data.reason]
  const warning = (text: string): Said => ({ text, severity: 'warning' })
  switch (type) {
    case 'budget.warning':
      return warning(`${data.percent ?? 80} % of the budget is used: ${spent(data)}`)
    case 'budget.limit-reached':
      return warning(`the budget is used up: ${spent(data)}`)
    case 'budget.idle':
      return warning(`the box is idle and goes on costing money: ${spent(data)}`)
    case 'budget.stop-announced':
      return warning(
        `the box is stopped at ${data.stopAt ?? 'once'} for ${why} (${spent(data)}); to keep it: agentctl budget extend 2h`,
      )
    case 'budget.stop-cancelled':
      return { text: `the stop for ${why} was called off: ${data.because ?? ''}`, severity: 'info' }
    case 'budget.final-sync':
      return sayFinalSync(data)
    case 'budget.stopped':
      return { text: `the box is stopped for ${why}; its disk goes on costing`, severity: 'info' }
    case 'budget.stop-failed':
      return error(
        `THE BOX COULD NOT BE STOPPED and goes on costing money: ${data.problem?.message ?? ''}. ${ERROR_CODES.stop_failed.hint}`,
      )
    default:
      return undefined
  }
}

/** What is left is on a disk that may go with the box: whoever can still fetch it has to hear of it. */
const sayFinalSync = ({ left = [], leftBytes = 0, failed }: Told): Said | undefined => {
  if (failed !== undefined) return error(`the final sync failed: ${failed}`)
  if (left.length === 0) return undefined
  const names = left.slice(0, MOST_PROBLEMS).map(({ unit }) => unit)
  const more = left.length > names.length ? ' and more' : ''
  return error(
    `${formatSize(leftBytes)} are on no remote as the box stops, and only on its disk: ${names.join(', ')}${more}`,
  )
}

const spent = ({ spentUsd, limitUsd, hoursUsed, limitHours }: Told): string => {
  const money = typeof spentUsd === 'number' ? `$${spentUsd.toFixed(2)}` : 'unknown cost'
  const limit = typeof limitUsd === 'number' ? ` of $${limitUsd.toFixed(2)}` : ''
  const hours = `${(hoursUsed ?? 0).toFixed(1)} h`
  return `${money}${limit}, ${hours}${typeof limitHours === 'number' ? ` of ${limitHours} h` : ''}`
}

const error = (text: string): Said => ({ text, severity: 'error' })
