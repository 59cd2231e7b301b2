import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Python } from '../../shared/manifest/schema.ts'
import { coupledDists } from './abi/coupled-dists.ts'
import { checkResolution } from './check-resolution.ts'
import type { PythonContext } from './context.ts'
import type { OpenRequest } from './explain.ts'
import { explainRefusal } from './explain.ts'
import type { PythonFacts, WeighedPython } from './inspect-python.ts'
import { canonicalName, inspectPython, weighRequirements } from './inspect-python.ts'
import type { PythonUse } from './overlay.ts'
import { overlayExists, overlayPaths, overlayRoot, pythonUse } from './overlay.ts'
import type { PipSettings } from './pip.ts'
import { readPipSettings, withIndexes } from './pip.ts'
import type { ProtectedDists } from './protected.ts'
import { constraintLines, protectedDists } from './protected.ts'
import type { Requirement, RequirementFiles } from './requirement-files.ts'
import { problemAt, readRequirementFiles } from './requirement-files.ts'
import { isDirectRequirement } from './requirement-lines.ts'
import type { PlannedDist } from './resolve.ts'
import { resolveRequests } from './resolve.ts'
import { withScratchPython } from './scratch.ts'
import { sortRequests } from './sort-requests.ts'

/** The manifest's `python`, and requirements files that its custom nodes brought. */
export type PythonRequest = Python & { readonly requirementFiles?: readonly string[] }

export type PythonChange = { readonly name: string; readonly from: string | null; readonly to: string }

/** What would be installed, and everything that is wrong with it. Nothing was changed to find out. */
export type PythonPlan = PythonUse & {
  readonly base: PythonFacts
  /** The folder of the overlay that is installed into; it need not exist yet. */
  readonly root: string
  readonly changes: readonly PythonChange[]
  readonly dists: readonly PlannedDist[]
  readonly problems: readonly Problem[]
  /** Lines that keep pip off the protected dists, in this room and in the processes. */
  readonly constraints: readonly string[]
  /** Further https indexes that requirements files named. */
  readonly indexes: readonly string[]
  readonly imports: readonly string[]
  /** Same digest: same environment, same wishes, same answer. */
  readonly digest: string
}

/**
 * Works out what the manifest's `python` needs. Executes nobody's code and changes nothing; pip is started only when
 * something is missing. What is wrong is in `problems`, every one at once.
 * @throws AgentError no_interpreter, overlay_failed
 */
export const planPython = async (request: PythonRequest, context: PythonContext): Promise<PythonPlan> => {
  const base = await inspectPython(request.interpreter, context)
  refuseOldPip(base)
  const root = overlayRoot(context.folder, base)
  const files = await readRequirementFiles({
    patterns: request.requirements,
    paths: (request.requirementFiles ?? []).filter((file) => existsSync(file)),
  })
  const installs = readInstalls(request)
  const wishes = [...files.requirements, ...installs.requirements]
  const top = await weighTop(base, { ...context, root, wishes: [...wishes, ...files.constraints] })
  // What an earlier install brought may be replaced: its successor is checked like any other.
  const fromImage = top.dists.filter((dist) => !dist.location.startsWith(`${root}/`))
  const coupled = await coupledDists(fromImage, context)
  const protectedSet = protectedDists(top, { protect: request.protect, coupled })
  const settings = await readPipSettings(base.prefix, context)
  const sorted = sortRequests(wishes, { top, protectedSet })
  const resolved =
    sorted.open.length === 0
      ? { dists: [], problems: [] }
      : await resolveOpen(sorted.open, { ...context, top, files, protectedSet, settings })
  return {
    ...pythonUse(overlayPaths(root, base.version)),
    base,
    root,
    changes: resolved.dists.map((dist) => ({
      name: dist.name,
      from: versionIn(top, dist.name),
      to: dist.version,
    })),
    dists: resolved.dists,
    problems: [...files.problems, ...installs.problems, ...sorted.problems, ...resolved.problems],
    constraints: constraintLines(protectedSet, settings.constraints),
    indexes: files.indexes,
    imports: request.imports,
    digest: digestOf({ base, dists: top.dists, wishes, request, resolved: resolved.dists }),
  }
}

/** Weighs in the overlay where there is one: what was installed there counts. */
const weighTop = async (
  base: PythonFacts,
  context: PythonContext & { readonly root: string; readonly wishes: readonly Requirement[] },
): Promise<WeighedPython> => {
  const paths = overlayPaths(context.root, base.version)
  const stacked = overlayExists(paths)
  return weighRequirements(stacked ? paths.python : base.interpreter, {
    requirements: context.wishes.map((wish) => wish.text),
    overlay: stacked ? paths.env : null,
    signal: context.signal,
    environment: context.environment,
  })
}

const readInstalls = (request: Python): { requirements: Requirement[]; problems: Problem[] } => {
  const requirements: Requirement[] = []
  const problems: Problem[] = []
  for (const one of request.install) {
    const spec = 'spec' in one ? one.spec.trim() : one.git
    const source = { kind: 'install', spec, noDeps: one.no_deps } as const
    const refuse = (code: Problem['code'], message: string) =>
      problems.push(problemAt(code, source, { subject: spec, message }))
    if ('git' in one)
      refuse('not_supported', 'installs from git are not supported yet; give a version with a wheel')
    else if (isDirectRequirement(spec))
      refuse(
        'not_supported',
        'paths and addresses are not installed; write name==version and put the folder into PIP_FIND_LINKS',
      )
    else if (/\s-/.test(spec) || /[\r\n]/.test(spec))
      refuse('requirement_invalid', 'options do not belong into a spec')
    else requirements.push({ text: spec, source, hashes: [] })
  }
  return { requirements, problems }
}

type OpenContext = PythonContext & {
  readonly top: WeighedPython
  readonly files: RequirementFiles
  readonly protectedSet: ProtectedDists
  readonly settings: PipSettings
}

const resolveOpen = async (
  open: readonly OpenRequest[],
  context: OpenContext,
): Promise<{ dists: readonly PlannedDist[]; problems: readonly Problem[] }> => {
  const { top, files, protectedSet, settings } = context
  const openConstraints = [...settings.constraints, ...boundsOf(files, { top, protectedSet })]
  const constraints = constraintLines(protectedSet, openConstraints)
  await mkdir(context.folder, { recursive: true })
  return withScratchPython(top, context, async (scratch) => {
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
  })
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

const versionIn = (python: WeighedPython, name: string): string | null =>
  python.dists.find((dist) => canonicalName(dist.name) === name)?.version ?? null

/** `--report` came with pip 22.2 and is stable since 23.0. */
const refuseOldPip = (base: PythonFacts): void => {
  if (base.pipVersion !== null && Number.parseInt(base.pipVersion, 10) < 23)
    throw new AgentError(
      'no_interpreter',
      `cannot use ${base.interpreter}: its pip ${base.pipVersion} is older than 23`,
      {
        hint: `Bake a newer one into the image: ${base.interpreter} -m pip install -U pip`,
      },
    )
}

const digestOf = (of: {
  readonly base: PythonFacts
  readonly dists: PythonFacts['dists']
  readonly wishes: readonly Requirement[]
  readonly request: Python
  readonly resolved: readonly PlannedDist[]
}): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        of.base.interpreter,
        of.base.version,
        of.dists.map((dist) => [dist.name, dist.version, dist.location]).sort(),
        of.wishes.map((wish) => wish.text),
        of.request.protect,
        of.request.imports,
        of.resolved.map((dist) => [dist.name, dist.version, dist.sha256]),
      ]),
    )
    .digest('hex')
