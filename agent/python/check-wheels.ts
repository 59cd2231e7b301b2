import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { readGpus } from '../platform/gpu.ts'
import type { AbiAnswer } from './abi/abi-layout.ts'
import { newFindings } from './abi/abi-layout.ts'
import { checkAbi } from './abi/check-abi.ts'
import { isObjectName } from './abi/list-objects.ts'
import { checkDriver, checkGpuCode, readDriver } from './check-gpu.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { readDistRecord } from './dist-record.ts'
import { layoutOf, versionOf, withStaged } from './environment-layout.ts'
import { explainFindings } from './explain-findings.ts'
import type { Dist, PythonFacts } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import type { PlannedDist } from './resolution.ts'
import { stageObjects } from './stage-objects.ts'

/** What the check before an install found, for the one after it. */
export type WheelCheck = {
  /** False: no shared object comes, goes or meets another numpy, so that nothing can break. */
  readonly touchesObjects: boolean
  /** What was wrong to begin with. */
  readonly before: AbiAnswer
  readonly warnings: readonly Problem[]
  /** Top-level packages that come with shared objects. */
  readonly modules: readonly string[]
}

type CheckContext = PythonContext & {
  readonly base: PythonFacts
  /** The overlay before the install. */
  readonly top: PythonFacts
  /** The folder with the fetched wheels. */
  readonly wheels: string
}

const NOTHING: AbiAnswer = { objects: 0, findings: [], driverProvided: [], gpu: [] }

/**
 * Checks the content of fetched wheels against the environment, which is not touched: would every shared object load,
 * the new ones and those that are there, with these wheels in place?
 * @throws AgentError install_abi_conflict, driver_too_old, with every problem; install_failed
 */
export const checkWheels = async (
  dists: readonly PlannedDist[],
  context: CheckContext,
): Promise<WheelCheck> => {
  const { base, top } = context
  const staging = join(context.wheels, 'staged')
  try {
    const staged = await stageObjects(context.wheels, { to: staging, signal: context.signal })
    const replaced = top.dists.filter((dist) => dists.some((one) => one.name === canonicalName(dist.name)))
    const numpy = dists.find((dist) => dist.name === 'numpy')?.version
    const touchesObjects = staged.owners.size > 0 || numpy !== undefined || (await ownObjects(replaced))
    if (!touchesObjects && staged.torchVersion === undefined)
      return { touchesObjects, before: NOTHING, warnings: [], modules: [] }
    const layout = await layoutOf({ base, top, environment: context.environment })
    const after = await checkAbi(await withStaged(layout, { folder: staging, replaced, numpy }), context)
    // An environment is rarely without findings, but there is nothing to compare when there are none.
    const before = after.findings.length === 0 ? NOTHING : await checkAbi(layout, context)
    const damaged = staged.damaged.map(({ file, reason }) => ({
      file,
      path: join(staging, file),
      kind: 'damaged' as const,
      what: reason,
    }))
    const searchPath = cleanEnvironment(context.environment)['PATH'] ?? ''
    const ownerOf = (file: string): string | undefined => staged.owners.get(file)
    const planned = (name: string) => dists.find((dist) => dist.name === name)?.version
    const findings = newFindings(after, before).filter(
      (finding) => !damaged.some(({ file }) => file === finding.file),
    )
    const gpus = (await readGpus(searchPath, context.signal)) ?? []
    const problems = [
      ...(await explainFindings([...damaged, ...findings], {
        ownerOf,
        torch: planned('torch') ?? versionOf(top.dists, 'torch'),
        numpy: numpy ?? layout.numpy,
        searchPath,
        signal: context.signal,
      })),
      ...forAnotherTorch(staged.builtFor, planned('torch') ?? versionOf(top.dists, 'torch')),
      ...checkGpuCode(after.gpu, { gpus, ownerOf }),
      ...checkDriver(staged.torchVersion ?? '', { driver: await readDriver(gpus) }),
    ]
    refuse(problems)
    const modules = [...staged.owners.keys()].flatMap(
      (path) => /^([A-Za-z_]\w*)(?:\/|\.(?:cpython-[^.]+|abi3)\.so$)/.exec(path)?.[1] ?? [],
    )
    return { touchesObjects, before, warnings: problems, modules: [...new Set(modules)] }
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

/**
 * The same question after the install, asked of what is really there.
 * @throws AgentError install_abi_conflict
 */
export const checkInstalled = async (check: WheelCheck, context: CheckContext): Promise<void> => {
  if (!check.touchesObjects) return
  const { base, top } = context
  const layout = await layoutOf({ base, top, environment: context.environment })
  const findings = newFindings(await checkAbi(layout, context), check.before)
  refuse(
    await explainFindings(findings, {
      ownerOf: () => undefined,
      torch: versionOf(top.dists, 'torch'),
      numpy: layout.numpy,
      searchPath: cleanEnvironment(context.environment)['PATH'] ?? '',
      signal: context.signal,
    }),
  )
}

const refuse = (problems: readonly Problem[]): void => {
  const errors = problems.filter((problem) => problem.severity === 'error')
  const [first] = errors
  if (first !== undefined)
    throw new AgentError(first.code, first.message, { hint: first.hint, problems: errors })
}

/** The loader may be content with such a package, which then works slowly and says so on a line nobody reads. */
const forAnotherTorch = (builtFor: ReadonlyMap<string, string>, torch: string | null): Problem[] =>
  [...builtFor].flatMap(([name, version]) =>
    torch === null || releaseOf(version) === releaseOf(torch)
      ? []
      : [
          {
            code: 'install_abi_conflict',
            severity: 'warning',
            subject: name,
            message: `${name} was built for torch ${version}, and torch is ${torch}: it may run without its kernels`,
            hint: `Take a version that was built for torch ${releaseOf(torch)}.`,
          },
        ],
  )

const releaseOf = (version: string): string => version.split('.').slice(0, 2).join('.')

const ownObjects = async (dists: readonly Dist[]): Promise<boolean> => {
  for (const dist of dists)
    if ((await readDistRecord(dist)).some(({ path }) => isObjectName(path))) return true
  return false
}
