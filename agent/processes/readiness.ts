import { get } from 'node:http'
import { createConnection } from 'node:net'
import type { Clock } from '../platform/clock.ts'
import { createLinePattern } from './line-pattern.ts'
import { readOutput } from './output-log.ts'
import type { Readiness } from './planned-process.ts'
import { createOutputStripper } from './strip-output.ts'

type ProbeContext = {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** The process's log, and where in it this job begins. */
  readonly folder: string
  readonly logStart: number
}

const PROBE_EVERY_MS = 250
const PROBE_WITHIN_MS = 5_000
const LONGEST_LINE = 8_192
const LONGEST_PIECE = 131_072

/**
 * Waits until a process does its work, by its own sign of it. Ends with the signal only: the caller sets the limit.
 * @throws AgentError pattern_too_slow
 */
export const waitUntilReady = async (readiness: Readiness, context: ProbeContext): Promise<void> => {
  if (readiness.kind === 'log') return waitForLine(createLinePattern(readiness.pattern), context)
  for (;;) {
    if (await probe(readiness, context.signal)) return
    await context.clock.sleep(PROBE_EVERY_MS, context.signal)
  }
}

/** One look whether it answers now; a process whose sign was a line of output is taken to go on. */
export const probe = async (readiness: Readiness, signal: AbortSignal): Promise<boolean> => {
  if (readiness.kind === 'http') return answersHttp(readiness.url, signal)
  if (readiness.kind === 'port') return acceptsConnection(readiness.port)
  return true
}

const answersHttp = (url: string, signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve) => {
    // A connection of its own, closed afterwards: nothing is to keep the process or the agent from ending.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(PROBE_WITHIN_MS)])
    const request = get(url, { agent: false, signal: limit }, (response) => {
      const status = response.statusCode ?? 500
      response.destroy()
      resolve(status >= 200 && status < 400)
    })
    request.on('error', () => resolve(false))
  })

const acceptsConnection = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1', timeout: PROBE_WITHIN_MS })
    const end = (accepted: boolean) => (): void => {
      socket.destroy()
      resolve(accepted)
    }
    socket.once('connect', end(true)).once('timeout', end(false)).once('error', end(false))
  })

const waitForLine = async (
  matches: (lines: readonly string[]) => boolean,
  context: ProbeContext,
): Promise<void> => {
  const stripper = createOutputStripper()
  let line = ''
  const output = readOutput(context.folder, { ...context, fromOffset: context.logStart, follow: () => true })
  for await (const { bytes } of output) {
    // The last line may still be growing; it is looked at again together with what follows.
    line = (line.slice(line.lastIndexOf('\n') + 1) + stripper.push(bytes)).slice(-LONGEST_PIECE)
    if (matches(line.split('\n').map((one) => one.slice(0, LONGEST_LINE)))) return
  }
}
