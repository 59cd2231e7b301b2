import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { argument } from '../command.ts'
import { isPassing } from '../event-stream.ts'
import { asAgentError } from '../exit.ts'
import { bold } from '../output/text.ts'
import type { SessionEnd } from '../terminal/session.ts'
import { backoffMs, sleep } from '../wait.ts'

export const attach: Command = {
  name: 'attach',
  group: 'Processes',
  summary: 'the terminal of a process; detach with ctrl-]',
  example: 'agentctl attach trainer',
  arguments: [{ name: 'process', summary: 'its name; agentctl ps lists them', names: 'processes' }],
  run: async (call) => {
    const name = argument(call, 0)
    if (call.output.json)
      throw new AgentError('usage', 'a terminal has no --json', { hint: `Use agentctl logs ${name} --json.` })
    const end = await attachTo(name, call)
    if (end === 'detached') call.output.note(`\ndetached from ${name}; it goes on`)
    else call.output.note(bold(name), ' has ended: agentctl ps says how')
    return EXIT.done
  },
}

/** Over connections that break and an agent that restarts: the process and its output outlive both. */
const attachTo = async (name: string, call: Call): Promise<SessionEnd> => {
  const [{ joinTerminal }, { openLocalTerminal }] = await Promise.all([
    import('../terminal/session.ts'),
    import('../terminal/local.ts'),
  ])
  const api = await call.api()
  const { longSignal: signal } = call
  let from: number | undefined
  const leaving = new AbortController()
  const way = await api.wayTo(name, signal)
  const local = openLocalTerminal({
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    onDetach: () => leaving.abort(),
  })
  try {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const end = await joinTerminal({
          name,
          way: attempt === 0 ? way : await api.wayTo(name, signal),
          from,
          signal,
          write: (bytes) => call.output.raw(bytes),
          onOffset: (offset) => {
            from = offset
            attempt = 0
          },
          onOpen: (terminal) => local.connect(terminal),
        })
        if (end === 'behind') continue
        if (end !== 'broken') return end
      } catch (error) {
        const known = asAgentError(error)
        // It ended while nobody was connected.
        if (from !== undefined && known.code === 'terminal_unavailable') return 'ended'
        if (signal.aborted || !isPassing(known)) throw known
      }
      if (leaving.signal.aborted) return 'detached'
      if (attempt === 0) local.say(`the connection to ${api.label} broke; trying again`)
      await sleep(backoffMs(attempt), signal)
    }
  } finally {
    local.close()
  }
}
