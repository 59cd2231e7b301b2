import { setTimeout as delay } from 'node:timers/promises'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { PlanRecord, RunRecord } from '../../shared/contract/records.ts'
import type { Scope } from '../../shared/contract/states.ts'
import { isFinalRunState } from '../../shared/contract/states.ts'
import { errorText } from '../platform/files.ts'
import { refusal } from '../../shared/manifest/parse-manifest.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { planBudget } from '../budget/planned-budget.ts'
import { usableWebhook } from '../notify/check-webhook.ts'
import { carryOut } from './carry-out.ts'
import { checkScope } from './check-scope.ts'
import { isOnlyWeather } from './weather.ts'
import { planWithout } from './do-without.ts'
import { makePlan } from './make-plan.ts'
import { planSyncs } from './plan-sync.ts'
import type { Plan } from './make-plan.ts'
import { readManifest, readWhatHolds } from './read-manifest.ts'
import type { Rooms } from './rooms.ts'
import type { Runs } from './runs.ts'

/** A manifest as it came: its text, and the name of its file for messages. */
export type ManifestText = {
  readonly manifest: string
  readonly file: string
  /** Subjects of the plan's errors that the run may do without. */
  readonly allowMissing?: readonly string[]
  /** The scope of the token that it came with; absent for the box's own. */
  readonly scope?: Scope
}

/** A run that was accepted, with the plan it carries out; null where it was under way already. */
export type Started = {
  readonly run: RunRecord
  readonly joined: boolean
  readonly plan: PlanRecord | null
}

/** One run at a time: applying again joins it, applying something else is refused until it ends. */
export type Apply = {
  readonly plan: (text: ManifestText, context: { readonly signal: AbortSignal }) => Promise<PlanRecord>
  /**
   * Resolves once the plan is accepted; the run goes on by itself.
   * @throws AgentError invalid_manifest, forbidden, plan_has_errors (with every problem; nothing was changed), busy
   */
  readonly start: (text: ManifestText) => Promise<Started>
  /** Resolves when the run has ended; what takes its time (an install is taken back) is not waited for. @throws AgentError not_found */
  readonly cancel: (id: string) => Promise<RunRecord>
  /** Before anything else: checkpoints are copied from the first second, whatever becomes of the plan. */
  readonly resumeServices: () => void
  /** At boot: goes on with a run that the last agent did not end, else brings the box to its last manifest again. */
  readonly resume: () => Promise<void>
  /** Resolves when no run is under way. */
  readonly idle: () => Promise<void>
}

type Active = {
  readonly id: string
  readonly digest: string
  readonly abort: AbortController
  readonly accepted: Promise<Omit<Started, 'joined'>>
  readonly ended: Promise<void>
}

/** Well within what a client waits for an answer. */
const CANCEL_WITHIN_MS = 10_000

export const createApply = (deps: {
  readonly runs: Runs
  readonly rooms: Rooms
  /** Aborts when the agent stops: runs are left as they are, for the next agent to go on with. */
  readonly shutdown: AbortSignal
}): Apply => {
  const { runs, rooms } = deps
  let active: Active | undefined

  const execute = (run: RunRecord, text: ManifestText, { atBoot }: { readonly atBoot: boolean }): Active => {
    const abort = new AbortController()
    const signal = AbortSignal.any([abort.signal, deps.shutdown])
    const accepted = Promise.withResolvers<Omit<Started, 'joined'>>()
    const work = async (): Promise<void> => {
      try {
        const plan = await acceptPlan(text, { rooms, signal, atBoot })
        const moved = runs.move(run.id, 'provisioning', { problems: plan.problems })
        accepted.resolve({ run: moved, plan: plan.record })
        tellSecrets(run.id, { manifest: plan.manifest, rooms })
        watchOver(plan.manifest, rooms)
        const outcome = await carryOut(plan, {
          rooms,
          signal,
          atBoot,
          enter: (state) => {
            if (state === 'starting') runs.move(run.id, state)
          },
        })
        runs.setProgress(run.id, rooms.downloads.progress())
        runs.move(run.id, outcome.state, { problems: outcome.problems })
      } catch (error) {
        accepted.reject(error)
        if (!deps.shutdown.aborted) endFailed(run.id, error, { atBoot })
      }
    }
    // The caller of start() may have gone; the refusal is in the record then.
    accepted.promise.catch(() => undefined)
    const ended = work().finally(() => {
      if (active?.id === run.id) active = undefined
    })
    active = { id: run.id, digest: run.manifest.digest, abort, accepted: accepted.promise, ended }
    return active
  }

  const endFailed = (id: string, error: unknown, { atBoot }: { readonly atBoot: boolean }): void => {
    const cancelled = error instanceof AgentError && error.code === 'cancelled'
    // At boot the box does not stand as its manifest says, and nobody was there to be refused.
    const refused =
      !atBoot &&
      error instanceof AgentError &&
      (error.code === 'plan_has_errors' || error.code === 'invalid_manifest')
    if (!(error instanceof AgentError))
      rooms.log.error('a run failed unexpectedly', { run: id, error: stackOf(error) })
    const problems = error instanceof AgentError && error.problems ? error.problems : [problemFrom(error, id)]
    // Before the plan was accepted the downloads are those of an earlier run.
    if (runs.get(id)?.state !== 'planning') runs.setProgress(id, rooms.downloads.progress())
    runs.move(id, cancelled ? 'cancelled' : 'failed', { problems, refused })
  }

  /** A box may start before its network does: a run at boot that only failed for that is begun again. */
  const outlastWeather = async (first: Active, begin: () => Active): Promise<void> => {
    let latest = first
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      await latest.ended
      const run = runs.get(latest.id)
      if (run?.state !== 'failed' || !isOnlyWeather(run.problems)) return
      const slept = await delay(pauseMs, true, { signal: deps.shutdown, ref: false }).catch(() => false)
      // Somebody applied something meanwhile, or cancelled this.
      if (!slept || active !== undefined || runs.current()?.id !== latest.id) return
      latest = begin()
    }
  }

  return {
    plan: async (text, { signal }) => {
      const read = readWhatHolds(text, rooms.secrets)
      const { record } = await makePlan(read, { rooms, signal: AbortSignal.any([signal, deps.shutdown]) })
      if (read.mistakes.length > 0) throw refusal(text.file, [...read.mistakes, ...record.problems])
      return record
    },
    start: async (text) => {
      const { manifest, digest } = readManifest(text, rooms.secrets)
      checkScope(manifest, text.scope)
      if (active?.digest === digest) {
        const { run } = await active.accepted
        return { run, joined: true, plan: null }
      }
      if (active !== undefined)
        throw new AgentError('busy', `run ${active.id} is under way with another manifest`, {
          hint: `Wait for it to end, or cancel it: agentctl run cancel ${active.id}.`,
        })
      const run = runs.create({
        digest,
        name: manifest.name,
        text: text.manifest,
        file: text.file,
        allowMissing: text.allowMissing ?? [],
      })
      return { ...(await execute(run, text, { atBoot: false }).accepted), joined: false }
    },
    cancel: async (id) => {
      const run = runs.get(id)
      if (run === undefined) throw new AgentError('not_found', `there is no run ${id}`)
      if (active?.id !== id) return run
      active.abort.abort(new AgentError('cancelled', `run ${id} was cancelled`))
      await Promise.race([active.ended, delay(CANCEL_WITHIN_MS, undefined, { ref: false })])
      return runs.get(id) ?? run
    },
    resumeServices: () => {
      const last = runs.manifest()
      if (last === undefined) return
      try {
        const text = { manifest: last.text, file: last.file, allowMissing: last.allowMissing }
        const { manifest, missing } = readManifest(text, rooms.secrets)
        // A path with a value that is not there any more is another path; the run that follows tells which.
        const lacking = new Set([...missing.values()].flat())
        const sync = manifest.sync.filter(({ name }) => !lacking.has(name))
        rooms.sync.configure(planSyncs({ ...manifest, sync }))
        watchOver(manifest, rooms)
      } catch (error) {
        rooms.log.error('nothing is copied, and no budget holds, until the manifest is applied', {
          error: errorText(error),
        })
      }
    },
    resume: async () => {
      const run = runs.current()
      const last = runs.manifest()
      if (run === undefined || last === undefined || run.state === 'cancelled') return
      const text = { manifest: last.text, file: last.file, allowMissing: last.allowMissing }
      const begin = (): Active => execute(runs.create({ ...last, file: last.file }), text, { atBoot: true })
      const isOver = isFinalRunState(run.state)
      if (!isOver) rooms.report({ type: 'run.resumed', subject: run.id, data: { from: run.state } })
      const first = isOver ? begin() : execute(runs.move(run.id, 'planning'), text, { atBoot: true })
      void outlastWeather(first, begin)
      await first.accepted.catch(() => undefined)
    },
    idle: async () => {
      await active?.ended
    },
  }
}

const FIRST_PAUSE_MS = 10_000
const LONGEST_PAUSE_MS = 600_000

/** Incident A1: a box that was not given its token looked like any other. Names only. */
const tellSecrets = (
  id: string,
  { manifest, rooms }: { readonly manifest: Manifest; readonly rooms: Rooms },
): void => {
  const declared = [...manifest.secrets.required, ...manifest.secrets.optional]
  const isThere = (name: string): boolean => rooms.secrets.get(name) !== undefined
  const data = {
    names: declared.filter(isThere),
    missing: declared.filter((name) => !isThere(name)),
  }
  if (declared.length > 0) rooms.report({ type: 'secrets.received', subject: id, data })
}

/** From here on the box is paid for under this budget, and somebody is told of what happens. */
const watchOver = ({ budget, notify }: Manifest, rooms: Rooms): void => {
  rooms.budget.configure(planBudget(budget))
  rooms.notify.configure(usableWebhook(notify?.webhook))
}

/** A plan without errors, or the refusal with all of them. */
const acceptPlan = async (
  text: ManifestText,
  context: { readonly rooms: Rooms; readonly signal: AbortSignal; readonly atBoot: boolean },
): Promise<Plan> => {
  const { allowMissing = [] } = text
  const plan = await planWithout(readManifest(text, context.rooms.secrets), {
    ...context,
    allowMissing,
    write: true,
  })
  const errors = plan.problems.filter((problem) => problem.severity === 'error')
  if (errors.length > 0)
    throw new AgentError(
      'plan_has_errors',
      `the plan of ${text.file} has ${errors.length === 1 ? 'an error' : `${errors.length} errors`}; nothing was changed`,
      { problems: plan.problems },
    )
  return plan
}

const stackOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error)
