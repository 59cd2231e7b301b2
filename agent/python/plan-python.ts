import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Python } from '../../shared/manifest/schema.ts'
import { coupledDists } from './abi/coupled-dists.ts'
import type { BuiltWheel, GitInstall } from './built-wheels.ts'
import { builtNames, missingBuilds } from './built-wheels.ts'
import { checkDisk, packedBytes } from './check-disk.ts'
import type { PythonContext } from './context.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import type { PythonFacts, WeighedPython } from './inspect-python.ts'
import { canonicalName, refuseUnusable, weighRequirements } from './inspect-python.ts'
import type { PythonUse } from './overlay.ts'
import { overlayExists, overlayPaths, overlayRoot, pythonUse } from './overlay.ts'
import { readInstalls } from './read-installs.ts'
import { readPipSettings } from './pip.ts'
import type { ProtectedDists } from './protected.ts'
import { constraintLines, protectedDists } from './protected.ts'
import type { Requirement } from './requirement-files.ts'
import { problemAt, readRequirementFiles } from './requirement-files.ts'
import type { PlannedDist } from './resolution.ts'
import { resolveOpen } from './resolve-open.ts'
import { sortRequests } from './sort-requests.ts'
import { checkTorchFit } from './torch-fit.ts'
import { unwantedDists } from './unwanted-dists.ts'
import type { OverlayDist } from './unwanted-dists.ts'
import { findUv } from './uv.ts'

/** The manifest's `python`, and what came to it: requirements files of custom nodes, wheels that were built. */
export type PythonRequest = Python & {
  readonly requirementFiles?: readonly string[]
  /** Folders whose files the patterns of `requirements` leave out. */
  readonly leftOut?: readonly string[]
  /** Wheels of its git entries, once they are built. */
  readonly built?: readonly BuiltWheel[]
}

export type PythonChange = { readonly name: string; readonly from: string | null; readonly to: string }

/** What would be installed, and everything that is wrong with it. Nothing was changed to find out. */
export type PythonPlan = PythonUse & {
  readonly request: PythonRequest
  readonly base: PythonFacts
  /** What has to be built first; its changes are known only then. */
  readonly builds: readonly GitInstall[]
  /** The folder of the overlay that is installed into; it need not exist yet. */
  readonly root: string
  readonly changes: readonly PythonChange[]
  readonly dists: readonly PlannedDist[]
  /** Of their wheels, as far as the index tells their sizes. */
  readonly downloadBytes: number
  /** What is in the overlay and not wanted any more; it stays. */
  readonly left: readonly OverlayDist[]
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
  const files = await readRequirementFiles({
    patterns: request.requirements,
    paths: (request.requirementFiles ?? []).filter((file) => existsSync(file)),
    leftOut: request.leftOut ?? [],
  })
  const built = request.built ?? []
  const installs = readInstalls(request.install, built)
  const wishes = [...files.requirements, ...installs.requirements]
  const weigh = (interpreter: string, overlay: string | null): Promise<WeighedPython> =>
    weighRequirements(interpreter, {
      requirements: [...wishes, ...files.constraints].map((wish) => wish.text),
      overlay,
      signal: context.signal,
      environment: context.environment,
    })
  const base = await weigh(request.interpreter, null)
  refuseUnusable(request.interpreter, base)
  refuseOldPip(base)
  const root = overlayRoot(context.folder, base)
  const paths = overlayPaths(root, base.version)
  // In the overlay, where there is one: what was installed there counts.
  const top = overlayExists(paths) ? await weigh(paths.python, paths.env) : base
  // What an earlier install brought may be replaced: its successor is checked like any other.
  const fromImage = top.dists.filter((dist) => !dist.location.startsWith(`${root}/`))
  const coupled = await coupledDists(fromImage, context)
  const protectedSet = protectedDists(top, { protect: request.protect, coupled })
  const settings = await readPipSettings(base.prefix, context)
  const uv = findUv(base.interpreter, { ...context, settings }) ?? null
  const sorted = sortRequests(wishes, { top, protectedSet })
  const resolved =
    sorted.open.length === 0
      ? { dists: [], problems: [] }
      : await resolveOpen(sorted.open, { ...context, top, files, protectedSet, settings, uv, built })
  const builds = request.built ? [] : missingBuilds(installs.builds, { env: paths.env, dists: top.dists })
  const dists = [...built.map(plannedBuild), ...withoutBuilt(resolved.dists, built)]
  return {
    ...pythonUse(paths),
    request,
    base,
    builds,
    root,
    changes: [
      ...builds.map(({ git, ref }) => ({ name: nodeFolderName(git), from: null, to: `built from ${ref}` })),
      ...dists.map((dist) => ({ name: dist.name, from: versionIn(top, dist.name), to: dist.version })),
    ],
    dists,
    downloadBytes: packedBytes(dists),
    left: unwantedDists(top.dists, {
      root,
      wanted: [
        ...top.weighed.flatMap((one) => (one.error === undefined ? [one.name] : [])),
        ...dists.map(({ name }) => name),
        ...builtNames(installs.builds, paths.env),
      ],
    }),
    problems: [
      ...files.problems,
      ...installs.problems,
      ...sorted.problems,
      ...resolved.problems,
      ...refuseBuilt(built, protectedSet),
      ...(await checkDisk(dists, context.folder)),
      // The image brought it: its user has to know, and no install can help.
      ...(await checkTorchFit(top.sites, context)).map((one) => ({ ...one, severity: 'warning' as const })),
    ],
    constraints: constraintLines(protectedSet, settings.constraints),
    indexes: files.indexes,
    imports: request.imports,
    digest: digestOf({ base, dists: top.dists, wishes, request, resolved: dists, builds }),
  }
}

const plannedBuild = ({ name, version, sha256, requires }: BuiltWheel): PlannedDist => ({
  name,
  version,
  sha256,
  sizeBytes: null,
  url: null,
  requires,
})

const withoutBuilt = (dists: readonly PlannedDist[], built: readonly BuiltWheel[]): readonly PlannedDist[] =>
  dists.filter((dist) => built.every(({ name }) => name !== dist.name))

/** A repository may hold any name: building torch does not make it less protected. */
const refuseBuilt = (built: readonly BuiltWheel[], protectedSet: ProtectedDists): Problem[] =>
  built
    .filter(({ name }) => protectedSet.has(name))
    .map(({ name, git, version }) =>
      problemAt(
        'install_blocked',
        { kind: 'install', spec: git, noDeps: false },
        { subject: name, message: `${git} is ${name} ${version}, and ${name} is protected` },
      ),
    )

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
  readonly builds: readonly GitInstall[]
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
        of.builds,
      ]),
    )
    .digest('hex')
