import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { ProcessState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import { processProblem } from './describe-end.ts'
import type { Readiness } from './planned-process.ts'
import { probe, waitUntilReady } from './readiness.ts'

type ReadinessContext = {
  readonly name: string
  readonly readiness: Readiness | null
  readonly folder: string
  readonly logStart: number
  readonly clock: Clock
  /** Aborted when the job has ended. */
  readonly signal: AbortSignal
  /** Looks behind the answer: an error keeps it from being ready. Its outcome is for `onState` to know. */
  readonly prove: () => Promise<void>
  readonly onState: (state: ProcessState, problem: Problem | null) => void
}

/** Long enough to tell a program that starts from one that ends at once with a wrong argument. */
const SETTLE_MS = 1_000
const WATCH_EVERY_MS = 10_000
const MISSES = 3

/**
 * Says when a job is ready or running, and goes on watching: one that no longer answers is `unresponsive` until it does
 * again. It is never ended for that: a long computation may hold up a server that is perfectly well.
 * @param state the state an adopted job was last known in; it need not prove again what it has proven
 */
export const followReadiness = async (state: ProcessState, context: ReadinessContext): Promise<void> => {
  const { readiness, clock, signal, onState } = context
  if (readiness === null) {
    if (state === 'starting') await clock.sleep(SETTLE_MS, signal)
    onState('running', null)
    return
  }
  if (state !== 'ready') {
    if (!(await becomeReady(readiness, context))) return
    await context.prove()
  }
  onState('ready', null)
  for (let misses = 0; readiness.kind !== 'log';) {
    await clock.sleep(WATCH_EVERY_MS, signal)
    const answers = await probe(readiness, signal)
    signal.throwIfAborted()
    if (answers && misses >= MISSES) onState('ready', null)
    misses = answers ? 0 : misses + 1
    if (misses === MISSES) onState('unresponsive', notAnswering(context))
  }
}

/** @returns false when it will never be known */
const becomeReady = async (readiness: Readiness, context: ReadinessContext): Promise<boolean> => {
  const { clock, signal, onState, name } = context
  const waiting = new AbortController()
  const ready = waitUntilReady(readiness, { ...context, signal: AbortSignal.any([signal, waiting.signal]) })
  const late = clock.sleep(readiness.withinMs, AbortSignal.any([signal, waiting.signal])).then(() => 'late')
  try {
    if ((await Promise.race([ready, late])) !== 'late') return true
    const message = `${name} was not ready within ${Math.round(readiness.withinMs / 1000)} s: ${describe(readiness)}`
    onState('running', processProblem('process_not_ready', { name, message }))
    await ready
    return true
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'pattern_too_slow') throw error
    onState('running', problemFrom(error, name))
    return false
  } finally {
    waiting.abort()
    await Promise.allSettled([ready, late])
  }
}

const notAnswering = ({ name, readiness }: ReadinessContext): Problem =>
  processProblem('process_not_ready', {
    name,
    message: `${name} no longer answers: ${readiness === null ? '' : describe(readiness)}`,
  })

const describe = (readiness: Readiness): string => {
  switch (readiness.kind) {
    case 'http':
      return `no good answer from ${readiness.url}`
    case 'log':
      return `no line of its output matches ${readiness.pattern}`
    case 'port':
      return `nothing listens on port ${readiness.port}`
  }
}
