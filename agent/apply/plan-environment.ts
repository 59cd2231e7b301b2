import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest, Python } from '../../shared/manifest/schema.ts'
import type { PythonPlan, PythonRequest } from '../python/plan-python.ts'
import type { NodeRequirements } from './node-requirements.ts'
import { nodeRequirements, refuseUnplaced, serveNodes } from './node-requirements.ts'
import type { Rooms } from './rooms.ts'

/** The Python part of a plan; its refusal is a problem of the plan like any other. */
export const planEnvironment = async (
  manifest: Manifest,
  { rooms, signal }: { readonly rooms: Pick<Rooms, 'python'>; readonly signal: AbortSignal },
): Promise<{ readonly plan: PythonPlan | null; readonly problems: readonly Problem[] }> => {
  const { python } = manifest
  const unplaced = refuseUnplaced(manifest)
  if (python === undefined || unplaced.length > 0) return { plan: null, problems: unplaced }
  const nodes = nodeRequirements(manifest)
  try {
    const { value, dropped } = await serveNodes(nodes, async (some) => {
      const plan = await rooms.python.plan(requestWith(some, { python, nodes }), { signal })
      return { value: plan, errors: plan.problems.filter(({ severity }) => severity === 'error') }
    })
    return { plan: value, problems: [...value.problems, ...dropped] }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof AgentError)) throw error
    return { plan: null, problems: [problemFrom(error, 'python')] }
  }
}

/** What the manifest asks for with some of its custom nodes: a pattern of it may match the files of the others too. */
export const requestWith = (
  some: readonly NodeRequirements[],
  of: { readonly python: Python; readonly nodes: readonly NodeRequirements[] },
): PythonRequest => ({
  ...of.python,
  requirementFiles: some.map(({ file }) => file),
  leftOut: of.nodes.filter((node) => !some.includes(node)).map(({ folder }) => folder),
})
