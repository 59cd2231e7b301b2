import { AgentError, EXIT } from '../shared/contract/errors.ts'
import type { Api } from './api.ts'
import type { Call } from './command.ts'
import { COMMANDS } from './commands/all.ts'
import { connect } from './connect.ts'
import { resolveBox } from './context/resolve-box.ts'
import { asAgentError, exitStatusOf } from './exit.ts'
import type { Output } from './output/output.ts'
import { createOutput } from './output/output.ts'
import type { Chosen } from './program.ts'
import { parseArguments } from './program.ts'
import { versionNote } from './version.ts'

/** argv → command → exit status. The one place where an error becomes text and an exit status. */
const main = async (argv: readonly string[]): Promise<number> => {
  const outputFor = (flags: { json: boolean; colour: boolean }): Output =>
    createOutput({
      stdout: process.stdout,
      stderr: process.stderr,
      json: flags.json,
      colour: flags.colour && !process.env['NO_COLOR'],
    })
  const interrupt = listenForCtrlC()
  let output = outputFor({ json: argv.includes('--json'), colour: !argv.includes('--no-color') })
  try {
    const chosen = parseArguments(argv)
    if (chosen.kind === 'text') {
      if (output.json) output.document({ text: chosen.text.trimEnd() })
      else await output.raw(chosen.text)
      return EXIT.done
    }
    output = outputFor(chosen)
    return await chosen.command.run(callOf(chosen, { output, signal: interrupt }))
  } catch (error) {
    const known = asAgentError(error)
    output.error(known)
    return exitStatusOf(known, interrupt.aborted)
  }
}

const callOf = (
  chosen: Extract<Chosen, { kind: 'command' }>,
  { output, signal }: { output: Output; signal: AbortSignal },
): Call => {
  const { timeoutMs } = chosen
  let api: Promise<Api> | undefined
  let noted = false
  const onAgentVersion = (version: string): void => {
    const note = noted ? undefined : versionNote(version)
    noted = true
    if (note !== undefined) output.note(`note: ${note}`)
  }
  return {
    args: chosen.args,
    options: chosen.options,
    context: chosen.context,
    environment: process.env,
    commands: COMMANDS,
    output,
    signal,
    longSignal: timeoutMs === undefined ? signal : AbortSignal.any([signal, deadlineAfter(timeoutMs)]),
    timeoutMs,
    api: () =>
      (api ??= resolveBox(chosen.context, process.env).then((box) =>
        connect(box, { environment: process.env, signal, timeoutMs, onAgentVersion }),
      )),
  }
}

const deadlineAfter = (ms: number): AbortSignal => {
  const controller = new AbortController()
  setTimeout(() => {
    controller.abort(new AgentError('deadline', `the ${ms / 1000} s of --timeout have passed`))
  }, ms).unref()
  return controller.signal
}

/** The first Ctrl-C (or SIGTERM) ends the command in order; the second ends the program at once. */
const listenForCtrlC = (): AbortSignal => {
  const controller = new AbortController()
  const onSignal = (cause: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted)
    controller.abort(
      new AgentError('interrupted', 'interrupted', {
        cause,
        hint: 'Repeat the command to go on; nothing is lost.',
      }),
    )
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return controller.signal
}

// `agentctl logs p | head`: the reader has seen enough, which is no failure.
process.stdout.on('error', () => process.exit(EXIT.done))
process.stderr.on('error', () => undefined)

const status = await main(process.argv.slice(2))
process.exitCode = status
// Sockets and timers of a followed stream must not hold a command that has ended.
process.stdout.write('', () => process.exit(status))
