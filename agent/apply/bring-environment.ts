import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import type { PythonPlan } from '../python/plan-python.ts'
import type { PythonReady } from '../python/prepare-python.ts'
import type { Attempt, Served } from './node-requirements.ts'
import { nodeRequirements, nodesFolder, serveNodes } from './node-requirements.ts'
import { requestWith } from './plan-environment.ts'
import type { ProcessPython } from './plan-processes.ts'
import type { Rooms } from './rooms.ts'

type Context = { readonly rooms: Pick<Rooms, 'python'>; readonly signal: AbortSignal }

type Brought = { readonly plan: PythonPlan; readonly ready: PythonReady | null }

/**
 * Custom nodes, then the environment: the nodes bring requirements files that the plan could not see yet. An optional
 * node that cannot be served is named, and the others are; a required one fails the run.
 */
export const bringEnvironment = async (
  of: { readonly manifest: Manifest; readonly plan: PythonPlan | null },
  context: Context,
): Promise<{ readonly ready: ProcessPython | null; readonly problems: readonly Problem[] }> => {
  const { manifest } = of
  const { rooms, signal } = context
  const problems: Problem[] = []
  try {
    const folder = nodesFolder(manifest)
    if (folder !== undefined && manifest.custom_nodes.length > 0)
      problems.push(...(await rooms.python.cloneNodes(manifest.custom_nodes, { signal, folder })))
    if (of.plan === null || problems.some(isError)) return { ready: null, problems }
    const { value, errors, dropped } = await install(manifest, { ...context, plan: of.plan })
    problems.push(...value.plan.problems.filter((problem) => !isError(problem)), ...dropped)
    if (value.ready === null) return { ready: null, problems: [...problems, ...errors] }
    problems.push(...value.ready.warnings)
    if (folder !== undefined) {
      // The script of a node without its packages would only bring them by another way.
      const nodes = manifest.custom_nodes.filter(({ git }) =>
        dropped.every(({ subject }) => subject !== nodeFolderName(git)),
      )
      const scripts = { plan: value.plan, nodesFolder: folder, signal }
      problems.push(...(await rooms.python.runScripts(nodes, scripts)))
    }
    return { ready: value.ready, problems }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof AgentError)) throw error
    return { ready: null, problems: [...problems, problemFrom(error, 'python'), ...(error.problems ?? [])] }
  }
}

const install = (
  manifest: Manifest,
  context: Context & { readonly plan: PythonPlan },
): Promise<Served<Brought>> => {
  const { python } = manifest
  const nodes = nodeRequirements(manifest)
  const planOf = (some: typeof nodes): PythonPlan | Promise<PythonPlan> =>
    python === undefined || manifest.custom_nodes.length === 0
      ? context.plan
      : context.rooms.python.plan(requestWith(some, { python, nodes }), { signal: context.signal })
  return serveNodes(nodes, async (some) => prepare(await planOf(some), context))
}

/** A refusal of what the packages turn out to be is one of the nodes’ like that of a plan. */
const prepare = async (plan: PythonPlan, { rooms, signal }: Context): Promise<Attempt<Brought>> => {
  const errors = plan.problems.filter(isError)
  if (errors.length > 0) return { value: { plan, ready: null }, errors }
  try {
    return { value: { plan, ready: await rooms.python.prepare(plan, { signal }) }, errors: [] }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof AgentError) || error.code === 'busy') throw error
    return {
      value: { plan, ready: null },
      errors: [problemFrom(error, 'python'), ...(error.problems ?? [])],
    }
  }
}

const isError = ({ severity }: Problem): boolean => severity === 'error'
