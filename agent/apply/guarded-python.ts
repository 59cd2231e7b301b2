import type { PythonCheck, PythonInstallRow, PythonPlanRecord } from '../../shared/contract/python-records.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Python } from '../../shared/manifest/schema.ts'
import type { Secrets } from '../platform/secrets.ts'
import { checkPython } from '../python/check-python.ts'
import type { PythonContext } from '../python/context.ts'
import { inspectPython } from '../python/inspect-python.ts'
import { planPython } from '../python/plan-python.ts'
import { preparePython } from '../python/prepare-python.ts'
import { listInstalls, takeBackInstall } from '../python/take-back.ts'
import { readManifest } from './read-manifest.ts'
import type { Runs } from './runs.ts'

type Waiting = { readonly signal: AbortSignal }

/** The Python of the manifest, looked at and changed by hand, under the same guard as an apply. */
export type GuardedPython = {
  check(context: Waiting): Promise<PythonCheck>
  plan(specs: readonly string[], context: Waiting): Promise<PythonPlanRecord>
  /** Null when everything was there already. */
  install(specs: readonly string[], context: Waiting): Promise<PythonInstallRow | null>
  history(context: Waiting): Promise<readonly PythonInstallRow[]>
  rollBack(id: string | null, context: Waiting): Promise<PythonInstallRow>
}

/** @throws from its methods AgentError not_found without a manifest, plan_has_errors, busy, and what an install throws */
export const createGuardedPython = (deps: {
  readonly runs: Pick<Runs, 'manifest'>
  readonly secrets: Secrets
  readonly python: Omit<PythonContext, 'signal'>
  /** Aborts when the agent stops: an install then is taken back. */
  readonly shutdown: AbortSignal
}): GuardedPython => {
  const contextOf = ({ signal }: Waiting): PythonContext => ({
    ...deps.python,
    signal: AbortSignal.any([signal, deps.shutdown]),
  })
  const pythonOfManifest = (): Python => {
    const stored = deps.runs.manifest()
    if (stored === undefined)
      throw new AgentError('not_found', 'no manifest was applied, so that no Python is known', {
        hint: 'Apply a manifest with python.interpreter first.',
      })
    const { python } = readManifest({ manifest: stored.text, file: stored.file }, deps.secrets).manifest
    if (python === undefined)
      throw new AgentError('not_found', `the manifest ${stored.name} has no python`, {
        hint: 'Apply a manifest with python.interpreter first.',
      })
    return python
  }
  const planSpecs = (specs: readonly string[], context: PythonContext) =>
    planPython(
      {
        ...pythonOfManifest(),
        requirements: [],
        install: specs.map((spec) => ({ spec, no_deps: false })),
      },
      context,
    )
  return {
    check: async (waiting) => checkPython(pythonOfManifest(), contextOf(waiting)),
    plan: async (specs, waiting) => {
      const { changes, problems } = await planSpecs(specs, contextOf(waiting))
      return { changes: [...changes], problems: [...problems] }
    },
    install: async (specs, waiting) => {
      const context = contextOf(waiting)
      const plan = await planSpecs(specs, context)
      const errors = plan.problems.filter(({ severity }) => severity === 'error')
      if (errors.length > 0)
        throw new AgentError(
          'plan_has_errors',
          `nothing was installed: ${errors.length === 1 ? 'one reason' : `${errors.length} reasons`} against it`,
          { hint: 'Correct what is listed, then install again.', problems: errors },
        )
      await preparePython(plan, context)
      return plan.changes.length === 0 ? null : (listInstalls(plan.base, context)[0] ?? null)
    },
    history: async (waiting) => {
      const context = contextOf(waiting)
      return listInstalls(await inspectPython(pythonOfManifest().interpreter, context), context)
    },
    rollBack: async (id, waiting) => {
      const context = contextOf(waiting)
      const base = await inspectPython(pythonOfManifest().interpreter, context)
      return takeBackInstall(base, { ...context, id })
    },
  }
}
