import { AgentError } from '../shared/contract/errors.ts'
import type { DownloadRow, Problem, RunRecord } from '../shared/contract/records.ts'
import { isFinalRunState } from '../shared/contract/states.ts'
import type { Api } from './api.ts'
import { connectionError } from './connection.ts'
import type { StreamMessage } from './event-stream.ts'
import { followEvents, isPassing } from './event-stream.ts'
import type { Output } from './output/output.ts'
import { problemLines } from './output/problems.ts'
import type { ProgressItem, ProgressPicture } from './output/progress.ts'
import { stateText } from './output/rows.ts'

type FollowRunDeps = {
  readonly api: Api
  readonly output: Output
  readonly signal: AbortSignal
  /** The last event before the run; undefined when the journal was empty. */
  readonly after: number | undefined
  /** What was shown before the run, as its plan's problems: the run carries them on, and they are not news. */
  readonly told?: readonly Problem[]
}

/**
 * Shows a run while it goes on and returns it when it has ended. An agent that restarts in between is waited for.
 * @throws AgentError the signal's reason, or what makes following impossible
 */
export const followRun = async (started: RunRecord, deps: FollowRunDeps): Promise<RunRecord> => {
  if (isFinalRunState(started.state)) return started
  const { api, output, signal } = deps
  const view = output.progress()
  const told = new Set((deps.told ?? []).map(keyOf))
  let state: string = started.state
  const show = (run: RunRecord, downloads: readonly DownloadRow[]): void => {
    if (run.state !== state) view.note(stateText(run.state), ` ${run.manifest.name}`)
    state = run.state
    const news = run.problems.filter((problem) => !told.has(keyOf(problem)))
    problemLines(news).forEach((line) => view.note(...line))
    for (const problem of news) told.add(keyOf(problem))
    view.show(pictureOf(run, downloads))
  }
  const onBroken = (error: Error): void => view.note(`${error.message}; the run goes on, trying again`)
  const onBack = (): void => view.note(`connected to ${api.label} again`)
  try {
    for await (const message of followEvents(deps.after ?? 0, { api, signal, onBroken, onBack })) {
      const news = progressOf(message)
      const known = news?.run?.id === started.id ? news.run : undefined
      const run = known ?? (needsLook(message, started.id) ? await look(started.id, deps) : undefined)
      if (run === undefined) continue
      // Its problems and its end are told by whoever asked for the run.
      if (isFinalRunState(run.state)) return run
      show(run, news?.downloads ?? [])
    }
    throw signal.reason
  } finally {
    view.close()
  }
}

/** Why a run that has ended is no success; undefined for one that is. */
export const runFailure = (run: RunRecord): AgentError | undefined =>
  run.state === 'ready' || run.state === 'degraded'
    ? undefined
    : new AgentError(
        run.state === 'cancelled' ? 'cancelled' : (run.problems[0]?.code ?? 'internal'),
        `run ${run.id} ${run.state === 'cancelled' ? 'was cancelled' : 'failed'}`,
        {
          problems: run.problems,
          hint: 'Correct what is listed, then apply again; what is done stays done.',
        },
      )

type ProgressNews = { readonly run: RunRecord | null; readonly downloads: readonly DownloadRow[] }

const progressOf = ({ event, data }: StreamMessage): ProgressNews | undefined =>
  event === 'progress' && typeof data === 'object' && data !== null ? (data as ProgressNews) : undefined

/** The run's own state event, or progress that is not about the run (it ended): the record says what became of it. */
const needsLook = ({ event, data }: StreamMessage, runId: string): boolean =>
  event === 'progress' ||
  (event === 'run.state' && (data as { subject?: string } | undefined)?.subject === runId)

/** The run's record; undefined when the agent is away for the moment. */
const look = async (runId: string, { api, signal }: FollowRunDeps): Promise<RunRecord | undefined> => {
  try {
    return (await api.run(runId)).run
  } catch (error) {
    const known = connectionError(error, signal, api.label)
    if (signal.aborted || !isPassing(known)) throw known
    return undefined
  }
}

const keyOf = ({ code, subject, message }: Problem): string => JSON.stringify([code, subject, message])

const MOVING = new Set(['resolving', 'downloading', 'verifying', 'waiting'])

const pictureOf = (run: RunRecord, downloads: readonly DownloadRow[]): ProgressPicture => ({
  whole: { name: run.manifest.name, state: run.state, ...run.progress },
  items: downloads
    .filter((row) => MOVING.has(row.state))
    .map((row): ProgressItem => ({ ...row, name: row.to })),
})
