import type { Problem } from '../../shared/contract/errors.ts'
import { problemFrom } from '../../shared/contract/errors.ts'
import type { PlanChanges } from '../../shared/contract/records.ts'
import type { Lack } from '../processes/find-lacks.ts'
import { findLacks } from '../processes/find-lacks.ts'
import type { PlannedProcess } from '../processes/planned-process.ts'
import type { PythonPlan } from '../python/plan-python.ts'

type Context = {
  readonly actions: readonly PlanChanges['processes'][number][]
  /** Null where the manifest has none, or it cannot be planned, which is told by itself. */
  readonly python: PythonPlan | null
  readonly hasPython: boolean
  /** Paths that are going to be fetched. */
  readonly fetched: ReadonlySet<string>
  readonly hasNodes: boolean
}

/**
 * Whether the processes that are going to be started can be: a misspelled program is found before 60 GB are downloaded
 * for it. What packages or an earlier process may yet bring is listed as unchecked, not refused.
 */
export const checkStarts = (
  planned: readonly PlannedProcess[],
  context: Context,
): { readonly problems: readonly Problem[]; readonly unchecked: readonly string[] } => {
  const begun = new Set(
    context.actions.flatMap(({ name, action }) => (action === 'start' || action === 'restart' ? [name] : [])),
  )
  const lacks = planned
    .filter(({ name }) => begun.has(name))
    .flatMap((plan) =>
      findLacks(plan)
        .filter((lack) => !isComing(lack, context))
        .map((lack) => ({ ...lack, name: plan.name, by: mayBring(lack, { ...context, plan }) })),
    )
  return {
    problems: lacks.flatMap(({ by, error, name }) => (by === null ? [problemFrom(error, name)] : [])),
    unchecked: lacks.flatMap(({ by, name, path }) =>
      by === null ? [] : [`${name}: whether ${by} brings ${path}`],
    ),
  }
}

/** A download, or the overlay's own Python, which is made before the first process starts. */
const isComing = ({ path }: Lack, { fetched, python }: Context): boolean =>
  fetched.has(path) || path === python?.interpreter

/** Who may yet bring what is not there; null: nobody. */
const mayBring = (
  { what, path }: Lack,
  { plan, python, hasPython, hasNodes }: Context & { readonly plan: PlannedProcess },
): string | null => {
  if (what === 'account') return null
  if (plan.spec.depends_on.length > 0) return plan.spec.depends_on.join(' or ')
  const installs =
    hasPython && (python === null || python.changes.length > 0 || python.builds.length > 0 || hasNodes)
  return what === 'program' && !path.includes('/') && installs ? 'a package' : null
}
