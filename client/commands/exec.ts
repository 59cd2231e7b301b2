import { constants } from 'node:os'
import { AgentError } from '../../shared/contract/errors.ts'
import type { ProcessRow } from '../../shared/contract/records.ts'
import type { Api } from '../api.ts'
import type { Call, Command } from '../command.ts'
import { flagOption } from '../command.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import { asAgentError } from '../exit.ts'
import { bold } from '../output/text.ts'
import { backoffMs, sleep } from '../wait.ts'

/** As docker has them: agentctl or the agent failed; there is no such program. */
const EXEC_FAILED = 125
const NO_PROGRAM = 127
const INTERRUPTED = 130

export const exec: Command = {
  name: 'exec',
  group: 'Processes',
  summary: 'run a command on the box once; it outlives the connection',
  example: 'agentctl exec -- nvidia-smi -L',
  arguments: [{ name: 'command...', summary: 'the program and its arguments, after --' }],
  options: [{ flags: '-d, --detach', summary: 'return as soon as it has begun' }],
  exits: [
    ['n', 'as the command ended; 128 + n when signal n ended it'],
    [String(EXEC_FAILED), 'agentctl or the agent failed'],
    [String(NO_PROGRAM), 'there is no such program on the box'],
    [String(INTERRUPTED), 'interrupted; the command goes on'],
  ],
  run: async (call) => {
    try {
      return await execute(call)
    } catch (error) {
      const known = asAgentError(error)
      call.output.error(known)
      if (call.signal.aborted) return INTERRUPTED
      return known.code === 'program_missing' ? NO_PROGRAM : EXEC_FAILED
    }
  },
}

const execute = async (call: Call): Promise<number> => {
  const api = await call.api()
  const detached = flagOption(call, 'detach')
  // Nobody can type here: a program that asks is told that nothing comes, instead of holding a script for ever.
  const { process: begun } = await api.exec(call.args, detached ? 'terminal' : 'none')
  if (detached) {
    if (call.output.json) call.output.document({ process: begun })
    call.output.line(bold(begun.name), ` has begun; its output: agentctl logs -f ${begun.name}`)
    return 0
  }
  const collected: Buffer[] = []
  const write = async (bytes: Buffer): Promise<void> => {
    if (call.output.json) collected.push(bytes)
    else await call.output.raw(call.output.isTerminal ? bytes : withoutReturns(bytes))
  }
  try {
    await follow(begun.name, { api, call, write })
  } catch (error) {
    if (!call.longSignal.aborted) throw error
    const { code, message } = asAgentError(call.longSignal.reason)
    throw new AgentError(code, `${message}; ${begun.name} goes on`, {
      hint: `agentctl logs -f ${begun.name}, or agentctl stop ${begun.name}.`,
    })
  }
  const { process } = await api.process(begun.name)
  const output = withoutReturns(Buffer.concat(collected)).toString('utf8')
  if (call.output.json) call.output.document({ process, output })
  return statusOf(process)
}

type Following = {
  readonly api: Api
  readonly call: Call
  readonly write: (bytes: Buffer) => Promise<void>
}

/** Its output to the end, each byte once, over connections that break and an agent that restarts. */
const follow = async (name: string, { api, call, write }: Following): Promise<void> => {
  const { longSignal: signal } = call
  let from = 0
  for (let attempt = 1; ; attempt += 1) {
    try {
      const reply = await api.openLog(name, { follow: 'true', from: String(from) }, signal)
      for await (const chunk of reply.body) {
        attempt = 1
        await write(chunk as Buffer)
        from += (chunk as Buffer).byteLength
      }
      return
    } catch (error) {
      const known = connectionError(error, signal, api.label)
      if (signal.aborted || !isPassing(known)) throw known
      if (attempt === 1) call.output.note(`${known.message}; trying again`)
    }
    await sleep(backoffMs(attempt), signal)
  }
}

/** A terminal ends its lines with a return; in a file or a pipe it would be a foreign character. */
const withoutReturns = (bytes: Buffer): Buffer =>
  Buffer.from(bytes.toString('latin1').replaceAll('\r\n', '\n'), 'latin1')

const statusOf = ({ exitCode, signal, state, name }: ProcessRow): number => {
  if (exitCode !== null && signal === null) return exitCode
  const number = Object.entries(constants.signals).find(([known]) => known === signal)?.[1]
  if (number !== undefined) return 128 + number
  throw new AgentError('process_lost', `nobody knows how ${name} ended; it is ${state}`)
}
