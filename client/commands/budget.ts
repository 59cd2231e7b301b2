import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { parseDuration } from '../../shared/contract/units.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { budgetLines } from '../output/budget-lines.ts'
import { problemLines } from '../output/problems.ts'

export const budget: Command = {
  name: 'budget',
  group: 'The box',
  summary: 'what the box costs, its limits and its stop; budget extend 2h, or 5usd',
  example: 'agentctl budget extend 2h',
  arguments: [
    { name: 'extend', summary: 'the word extend, to give it more', optional: true, choices: ['extend'] },
    { name: 'amount', summary: 'time (2h, 30m) or money (5usd)', optional: true },
  ],
  run: async (call) => {
    const [action] = call.args
    if (action !== undefined && action !== 'extend')
      throw new AgentError('usage', `there is no budget ${action}`, {
        hint: 'Write agentctl budget, or agentctl budget extend 2h.',
      })
    const by = action === undefined ? undefined : readAmount(argument(call, 1))
    const api = await call.api()
    const answer = by === undefined ? await api.budget() : await api.extendBudget(by)
    if (call.output.json) call.output.document(answer)
    call.output.lines(budgetLines(answer.budget))
    call.output.lines(problemLines(answer.budget.problem === null ? [] : [answer.budget.problem]))
    return EXIT.done
  },
}

/** @throws AgentError usage */
const readAmount = (text: string): { hours: number } | { usd: number } => {
  const money = /^\$?(\d+(?:\.\d+)?)(usd|\$)?$/i.exec(text)
  const isMoney = money !== null && (money[2] !== undefined || text.startsWith('$'))
  const ms = parseDuration(text)
  if (isMoney && Number(money[1]) > 0) return { usd: Number(money[1]) }
  if (ms !== undefined && ms > 0) return { hours: ms / 3_600_000 }
  throw new AgentError('usage', text === '' ? 'extend by how much?' : `${text} is neither time nor money`, {
    hint: 'Write agentctl budget extend 2h, 30m or 5usd.',
  })
}
