import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { ProcessRow } from '../../shared/contract/records.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import type { Call, Command } from '../command.ts'
import { argument } from '../command.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import { stateText } from '../output/rows.ts'
import { bold } from '../output/text.ts'
import { sleep } from '../wait.ts'

/** A process that ended is looked at again this often; its state lies in the agent's memory. */
const LOOK_EVERY_MS = 1_000

const ENDED: readonly ProcessState[] = ['exited', 'stopped', 'failed', 'crash-looping', 'lost']

export const wait: Command = {
  name: 'wait',
  group: 'Processes',
  summary: 'until a process ends; exits 0 when it ended with 0, else 1',
  example: 'agentctl wait trainer && agentctl down',
  arguments: [{ name: 'process', summary: 'its name; agentctl ps lists them', names: 'processes' }],
  run: async (call) => {
    const row = await waitForEnd(argument(call, 0), call)
    const { exitCode, signal } = row
    if (call.output.json) call.output.document({ process: row })
    call.output.line(bold(row.name), ': ', stateText(row.state), `, ${howItEnded(row)}`)
    return exitCode === 0 && signal === null ? EXIT.done : EXIT.failed
  },
}

const howItEnded = ({ startedAt, exitCode, signal }: ProcessRow): string => {
  if (startedAt === null) return 'it was never started'
  if (signal !== null) return `ended by ${signal}`
  return exitCode === null ? 'nobody knows how it ended' : `ended with status ${exitCode}`
}

const waitForEnd = async (name: string, call: Call): Promise<ProcessRow> => {
  const api = await call.api()
  let away = false
  for (let first = true; ; first = false) {
    try {
      const { process } = await api.process(name)
      if (ENDED.includes(process.state)) return process
      away = false
    } catch (error) {
      // The agent may restart while one waits; the process outlives it.
      const known = connectionError(error, call.longSignal, api.label)
      if (first || call.longSignal.aborted || !isPassing(known)) throw known
      if (!away) call.output.note(`${known.message}; still waiting`)
      away = true
    }
    await sleepOrEnd(call)
  }
}

const sleepOrEnd = async (call: Call): Promise<void> => {
  try {
    await sleep(LOOK_EVERY_MS, call.longSignal)
  } catch (error) {
    throw error instanceof AgentError && error.code === 'deadline'
      ? new AgentError('deadline', `${error.message}; the process goes on`, { cause: error })
      : error
  }
}
