import type { Problem } from '../../shared/contract/errors.ts'
import type { RunState } from '../../shared/contract/states.ts'
import { bringEnvironment } from './bring-environment.ts'
import { withoutRepeats } from './make-plan.ts'
import type { Plan } from './make-plan.ts'
import type { ProcessOutcome } from '../processes/apply-plan.ts'
import { planProcesses } from './plan-processes.ts'
import type { Rooms } from './rooms.ts'

/** How a run ended by itself: everything there, something optional missing, or not. */
export type Outcome = {
  readonly state: Extract<RunState, 'ready' | 'degraded' | 'failed'>
  readonly problems: readonly Problem[]
}

type Context = {
  readonly rooms: Rooms
  /** Tells the run's record that the next stage begins. */
  readonly enter: (state: 'provisioning' | 'starting') => void
  readonly signal: AbortSignal
  /** The agent was started; nobody asked for this run now. */
  readonly atBoot: boolean
}

/**
 * The main path after the plan (docs/architecture.md): files ∥ Python, then sync, then processes until they are proven.
 * A stage takes the values before it; none calls back. Whatever is proven done already costs one look.
 * @throws the signal's reason after an abort; everything else comes back as problems
 */
export const carryOut = async (plan: Plan, context: Context): Promise<Outcome> => {
  const { rooms, signal } = context
  const warnings = plan.problems

  context.enter('provisioning')
  const [files, python] = await Promise.all([
    fetchFiles(plan, context),
    bringEnvironment({ manifest: plan.manifest, plan: plan.python }, context),
  ])
  const provisioned = withoutRepeats([...warnings, ...files, ...python.problems])
  if (hasError(provisioned)) return { state: 'failed', problems: provisioned }

  context.enter('starting')
  // Sync comes first: what a process writes in its first minute is watched already.
  rooms.sync.configure(plan.syncs)
  const processes = planProcesses(plan.manifest, {
    python: python.ready,
    searchPath: rooms.probes.searchPath,
  })
  const started = await rooms.processes.apply(processes.planned, { signal, atBoot: context.atBoot })
  const problems = withoutRepeats([...provisioned, ...processes.problems, ...started.flatMap(problemsOf)])
  if (hasError(problems)) return { state: 'failed', problems }
  // What is optional and missing is told on every status, so that a half-provisioned box never looks fine.
  const isMissing = ({ code }: Problem) => files.length > 0 || DEGRADING.includes(code)
  return { state: plan.isPartial || problems.some(isMissing) ? 'degraded' : 'ready', problems }
}

/** Warnings that say that something wanted is not there. */
const DEGRADING: readonly string[] = ['custom_node_failed', 'variants_failed']

/** What a process was found to lack one by one, rather than in one sentence. */
const problemsOf = ({ problem, findings = [] }: ProcessOutcome): readonly Problem[] =>
  findings.some(({ severity }) => severity === 'error')
    ? findings
    : [...findings, ...(problem ? [problem] : [])]

const hasError = (problems: readonly Problem[]): boolean =>
  problems.some((problem) => problem.severity === 'error')

/** The problems of files that could not be had: an error for a required one, a warning for an optional one. */
const fetchFiles = async (plan: Plan, { rooms, signal }: Context): Promise<readonly Problem[]> => {
  const outcomes = await Promise.all([
    rooms.downloads.fetchAll(plan.files, { signal }),
    rooms.downloads.fetchSnapshots(plan.snapshots, { signal }),
  ])
  return outcomes
    .flat()
    .flatMap(({ state, problem, optional }) =>
      state === 'failed' && problem
        ? [{ ...problem, severity: optional ? ('warning' as const) : ('error' as const) }]
        : [],
    )
}
