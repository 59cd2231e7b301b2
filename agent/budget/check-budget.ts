import { basename } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { ErrorCode, Problem } from '../../shared/contract/errors.ts'
import type { KeyCheck } from '../../shared/providers/provider.ts'
import { mayStop } from './planned-budget.ts'
import type { PlannedBudget } from './planned-budget.ts'

/*
 * Whether the budget could do what it promises, before anything is paid for: an operator's shutdown was an `echo`
 * placeholder once, and was found out by the bill.
 */

export type StopFacts = {
  /** `vast instance 123`, `the command stop-me`; null: nothing is known that stops this box. */
  readonly subject: string | null
  readonly kind: 'provider' | 'command' | 'none'
  /** The key that the provider's own variable says should be here, and is not. */
  readonly missingKey: string | null
  /** What the provider says of the key; a text: why it could not be asked; null: not asked. */
  readonly key: KeyCheck | string | null
  /** Programs of the stop command and of its check that are not on the box. */
  readonly missingPrograms: readonly string[]
  /** What budget.stop.check says while the box runs; null: there is none, or it could not be run. */
  readonly saysStopped: boolean | null
  readonly usdPerHour: number | null
  /** False: nvidia-smi tells nothing. */
  readonly hasGpuLoad: boolean
  readonly isOverLimit: boolean
}

export type BudgetCheck = { readonly problems: readonly Problem[]; readonly unchecked: readonly string[] }

/** What is wrong with a budget on this box, and what only the stop itself can prove. Pure. */
export const checkBudget = (planned: PlannedBudget, facts: StopFacts): BudgetCheck => {
  const problems: Problem[] = []
  const unchecked: string[] = []
  if (planned.maxCostUsd !== null && facts.usdPerHour === null) {
    const message = 'max_cost_usd needs a price, and neither a provider nor rate_usd_per_hour tells one'
    if (facts.kind === 'provider')
      unchecked.push(
        'the price of the box: the provider does not tell it now, and rate_usd_per_hour is not given',
      )
    else problems.push(told('no_price', message))
  }
  if (planned.idleAfterMs !== null && !facts.hasGpuLoad)
    problems.push(
      told('gpu_missing', 'idle_after never counts here: nvidia-smi does not tell how busy the GPUs are', {
        severity: 'warning',
        hint: 'Without that the box counts as busy; use max_hours.',
      }),
    )
  if (mayStop(planned)) {
    if (facts.isOverLimit)
      problems.push(
        told('budget_exceeded', 'the budget is used up already: the box is stopped within minutes', {
          severity: 'warning',
        }),
      )
    const stop = checkStop(planned, facts)
    problems.push(...stop.problems)
    unchecked.push(...stop.unchecked)
  }
  return { problems, unchecked }
}

const checkStop = (planned: PlannedBudget, facts: StopFacts): BudgetCheck => {
  const { subject, key, kind } = facts
  if (subject === null || kind === 'none') {
    const message =
      facts.missingKey === null
        ? 'nothing is known that could stop this box: no provider’s instance id is in its environment, and there is no budget.stop'
        : `the box could not be stopped: ${facts.missingKey} is not on it`
    const hint =
      facts.missingKey === null
        ? 'Give budget.stop.command, or use on_limit: notify.'
        : `Put it into the box: agentctl secret set ${facts.missingKey}; or give budget.stop.command.`
    return { problems: [told('no_way_to_stop', message, { hint })], unchecked: [] }
  }
  return kind === 'command' ? checkCommand(planned, facts) : checkKeyOf(subject, key)
}

const checkKeyOf = (subject: string, key: StopFacts['key']): BudgetCheck => {
  const unproven = (why: string): BudgetCheck => ({
    problems: [],
    unchecked: [`whether ${subject} can be stopped: ${why}`],
  })
  if (key === null) return unproven('it was not asked')
  if (typeof key === 'string') return unproven(key)
  if (key.write === 'refused') {
    const message = `the provider refuses the key of ${subject}: the box could not be stopped`
    const hint = 'Put a key into the box that may stop it, or use on_limit: notify.'
    return { problems: [told('no_way_to_stop', message, { hint })], unchecked: [] }
  }
  if (key.write === 'accepted') return { problems: [], unchecked: [] }
  return unproven(
    key.read === 'refused'
      ? 'its key may not read the instance, and a plan writes nothing'
      : 'only a write would tell, which a plan does not do',
  )
}

const checkCommand = ({ stop }: PlannedBudget, facts: StopFacts): BudgetCheck => {
  if (stop === null) return { problems: [], unchecked: [] }
  const shown = stop.command.join(' ').slice(0, 200)
  if (stopsNothing(stop.command))
    return {
      problems: [
        told('no_way_to_stop', `budget.stop.command (${shown}) stops nothing`, {
          hint: 'Give a command after which the box goes down, or use on_limit: notify.',
        }),
      ],
      unchecked: [],
    }
  const missing = facts.missingPrograms.map((name) =>
    told('program_missing', `${name} of budget.stop is not on the PATH of the agent`),
  )
  if (missing.length > 0) return { problems: missing, unchecked: [] }
  if (facts.saysStopped === true)
    return {
      problems: [
        told(
          'no_way_to_stop',
          `budget.stop.check says that the box is stopped while it runs: the command (${shown}) could not change that`,
          { hint: 'Give a check that ends with 0 only when the box is stopped.' },
        ),
      ],
      unchecked: [],
    }
  return { problems: [], unchecked: [`whether ${shown} stops the box: that shows when it is run`] }
}

const told = (
  code: ErrorCode,
  message: string,
  options: { readonly severity?: Problem['severity']; readonly hint?: string } = {},
): Problem =>
  problemFrom(
    new AgentError(code, message, options.hint === undefined ? {} : { hint: options.hint }),
    'budget',
    options.severity,
  )

const SHELLS = ['sh', 'bash', 'dash', 'zsh', 'ash']
const HARMLESS = [
  'echo',
  'printf',
  'true',
  'false',
  ':',
  'sleep',
  'date',
  'cat',
  'ls',
  'pwd',
  'exit',
  'logger',
  'touch',
]

/** True for a placeholder: a command that plainly stops nothing, alone or as the whole script of a shell. */
export const stopsNothing = (command: readonly string[]): boolean => {
  const [program = '', ...args] = command
  const name = basename(program)
  if (!SHELLS.includes(name)) return HARMLESS.includes(name)
  const flag = args.findIndex((arg) => /^-[a-z]*c$/.test(arg))
  const script = flag < 0 ? undefined : args[flag + 1]
  return script?.split(/[;\n|&]+/).every((part) => isHarmless(part.trim())) ?? false
}

const isHarmless = (part: string): boolean =>
  part === '' || part.startsWith('#') || HARMLESS.includes(basename(part.split(/\s+/)[0] ?? ''))
