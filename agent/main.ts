import { setFlagsFromString } from 'node:v8'
import { AgentError, ERROR_CODES, EXIT } from '../shared/contract/errors.ts'
import { VERSION } from '../shared/version.ts'
import { bridge } from './bridge.ts'
import { compose } from './compose.ts'
import type { AgentConfig } from './config.ts'
import { readConfig, USAGE } from './config.ts'
import { pair } from './pair.ts'
import { leaveFirstPlace } from './platform/first-process.ts'

/** After a signal the agent has this long to leave its state in order; processes under shims go on. */
const SHUTDOWN_MS = 3_000

const main = async (argv: readonly string[]): Promise<number> => {
  const invocation = readConfig(argv, process.env)
  switch (invocation.command) {
    case 'help':
      process.stdout.write(`${USAGE}\n`)
      return EXIT.done
    case 'version':
      process.stdout.write(`${VERSION}\n`)
      return EXIT.done
    case 'pair':
      process.stdout.write(`${JSON.stringify(await pair(invocation, invocation.config))}\n`)
      return EXIT.done
    case 'bridge':
      await bridge(invocation.socket, { input: process.stdin, output: process.stdout })
      return EXIT.done
    case 'serve':
      return serve(invocation.config)
  }
}

const serve = async (config: AgentConfig): Promise<number> => {
  leaveFirstPlace()
  // The box's memory is for models: a daemon that mostly waits does with a small young generation.
  setFlagsFromString('--max-semi-space-size=1')
  setFlagsFromString('--optimize-for-size')
  const shutdown = new AbortController()
  const stop = (signal: NodeJS.Signals) => {
    setTimeout(() => process.exit(EXIT.done), SHUTDOWN_MS).unref()
    shutdown.abort(new AgentError('interrupted', `the agent was stopped by ${signal}`))
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, stop)
  const agent = await compose(config, shutdown.signal)
  await agent.run()
  await agent.close()
  return EXIT.done
}

// A reader that went away, or a full disk under a log file, must not end the agent.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)

try {
  process.exit(await main(process.argv.slice(2)))
} catch (error) {
  const known =
    error instanceof AgentError
      ? error
      : new AgentError('internal', error instanceof Error ? (error.stack ?? error.message) : String(error))
  process.stderr.write(`error: ${known.message}\ntry: ${known.hint}\n`)
  process.exit(ERROR_CODES[known.code].exit)
}
