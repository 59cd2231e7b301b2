import { mkdir } from 'node:fs/promises'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import { fileError } from '../platform/files.ts'
import type { BuiltWheel } from './built-wheels.ts'
import { checkResolution } from './check-resolution.ts'
import type { PythonContext } from './context.ts'
import type { OpenRequest } from './explain.ts'
import { explainRefusal } from './explain.ts'
import type { WeighedPython } from './inspect-python.ts'
import type { PipSettings } from './pip.ts'
import { withIndexes } from './pip.ts'
import type { ProtectedDists } from './protected.ts'
import { constraintLines } from './protected.ts'
import type { RequirementFiles } from './requirement-files.ts'
import type { PlannedDist, ResolveContext } from './resolution.ts'
import { resolveRequests } from './resolve.ts'
import { withScratchPython } from './scratch.ts'
import type { Uv } from './uv.ts'

type OpenContext = PythonContext & {
  readonly top: WeighedPython
  readonly files: RequirementFiles
  readonly protectedSet: ProtectedDists
  readonly settings: PipSettings
  readonly uv: Uv | null
  readonly built: readonly BuiltWheel[]
}

/**
 * What pip or uv would bring for the requests, in a scratch environment; or why it would not. A machine that cannot plan
 * (a full disk, an index that does not answer) is a problem of the plan like the others.
 */
export const resolveOpen = async (
  open: readonly OpenRequest[],
  context: OpenContext,
): Promise<{ dists: readonly PlannedDist[]; problems: readonly Problem[] }> => {
  const { top, files, protectedSet, settings } = context
  const openConstraints = [
    ...settings.constraints,
    ...boundsOf(files, { top, protectedSet }),
    ...context.built.map(({ name, version }) => `${name}===${version}`),
  ]
  const constraints = constraintLines(protectedSet, openConstraints)
  const resolveIn = async (scratch: ResolveContext['scratch']) => {
    const run = { ...context, scratch, settings: withIndexes(settings, files.indexes) }
    const dists: PlannedDist[] = []
    // Those without dependencies first: the versions they get are given for the rest.
    for (const noDeps of [true, false]) {
      const requests = open.filter((one) => one.noDeps === noDeps)
      if (requests.length === 0) continue
      const bounds = [...constraints, ...dists.map((dist) => `${dist.name}===${dist.version}`)]
      const resolution = await resolveRequests(
        requests.map((one) => one.text),
        { ...run, constraints: bounds, noDeps },
      )
      if (resolution.state === 'refused')
        return {
          dists: [],
          problems: await explainRefusal(
            { requests, said: resolution.said },
            { ...run, constraints: bounds, openConstraints },
          ),
        }
      dists.push(...resolution.dists.filter((dist) => dists.every((other) => other.name !== dist.name)))
    }
    return { dists, problems: await checkResolution(dists, { ...run, open }) }
  }
  try {
    await mkdir(context.folder, { recursive: true })
    return await withScratchPython(top, context, resolveIn)
  } catch (error) {
    const failure = fileError(error, `cannot plan in ${context.folder}`)
    if (!(failure instanceof AgentError) || context.signal.aborted) throw failure
    return { dists: [], problems: [problemFrom(failure, 'python')] }
  }
}

/** Bounds of `-c` lines that apply here and do not speak of protected dists. */
const boundsOf = (
  files: RequirementFiles,
  { top, protectedSet }: Pick<OpenContext, 'top' | 'protectedSet'>,
): string[] => {
  const weighed = top.weighed.slice(top.weighed.length - files.constraints.length)
  return weighed.flatMap((one) =>
    one.error === undefined && one.applies && one.url === null && !protectedSet.has(one.name)
      ? [`${one.name}${one.specifier}`]
      : [],
  )
}
