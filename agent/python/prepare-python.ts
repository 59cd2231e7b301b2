import { existsSync, mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { atomicWrite } from '../platform/files.ts'
import { buildWheels } from './build-wheels.ts'
import { recordBuilds } from './built-wheels.ts'
import { checkInstalled, checkWheels } from './check-wheels.ts'
import type { PythonContext } from './context.ts'
import { fingerprint } from './dist-record.ts'
import { fetchWheels } from './fetch-wheels.ts'
import { inspectPython, weighRequirements } from './inspect-python.ts'
import { takeInstallLock } from './install-lock.ts'
import { inTransaction, rollBack } from './install-transaction.ts'
import type { OverlayPaths, PythonUse } from './overlay.ts'
import { ensureOverlay, overlayPaths, pythonUse } from './overlay.ts'
import type { PipSettings } from './pip.ts'
import { installError, readPipSettings, runPip, withIndexes } from './pip.ts'
import type { PythonChange, PythonPlan } from './plan-python.ts'
import { planPython } from './plan-python.ts'
import type { ImportProof } from './prove-imports.ts'
import { proveImports } from './prove-imports.ts'
import { refuseClobbering } from './refuse-clobbering.ts'
import { withScratchPython } from './scratch.ts'
import { INSTALL_MARK } from './stray-installs.ts'
import { refuseBaseDrift, verifyInstall } from './verify-install.ts'

/** A Python that has what the manifest asked for; processes are started with it. */
export type PythonReady = PythonUse & {
  readonly changes: readonly PythonChange[]
  /** What is odd about what was installed. */
  readonly warnings: readonly Problem[]
}

/** A cold network disk needs minutes for a large package. */
const IMPORT_TIMEOUT_MS = 10 * 60_000

/**
 * Brings the overlay to the plan and proves the imports, or leaves it as it was.
 * @throws AgentError the plan's first error; busy, overlay_failed, install_failed, install_clobber, install_abi_conflict,
 *   driver_too_old, hash_mismatch, import_failed, disk_full
 */
export const preparePython = async (
  plan: PythonPlan,
  context: PythonContext & { readonly importTimeoutMs?: number },
): Promise<PythonReady> => {
  refuseProblems(plan)
  const paths = overlayPaths(plan.root, plan.base.version)
  // At once, so that of two that are asked for together the first holds the lock.
  mkdirSync(paths.root, { recursive: true })
  const unlock = takeInstallLock(paths.lock)
  try {
    await rollBack(paths, { ...context, reason: 'the agent ended in the middle of the install' })
    await ensureOverlay(paths, { ...context, base: plan.base })
    // Before anything else is started with the overlay: its processes are held by these lines too.
    atomicWrite(paths.constraints, plan.constraints.map((line) => `${line}\n`).join(''))
    const use = pythonUse(paths)
    const prove = (proof: ImportProof) =>
      proveImports(proof, {
        ...context,
        python: paths.python,
        variables: use.environment,
        timeoutMs: context.importTimeoutMs ?? IMPORT_TIMEOUT_MS,
      })
    if (plan.builds.length > 0)
      return await withBuilds(plan, { ...context, paths }, (full, folders) =>
        bring(full, { ...context, wheelFolders: folders, paths, prove }),
      )
    return await bring(plan, { ...context, paths, prove })
  } finally {
    unlock()
  }
}

/** Installs what the plan lacks, or only proves the imports. */
const bring = async (plan: PythonPlan, context: InstallContext): Promise<PythonReady> => {
  const { paths, prove } = context
  const ready = { ...pythonUse(paths), changes: plan.changes }
  if (plan.dists.length === 0) {
    await prove({ required: plan.imports, native: [], base: null })
    return { ...ready, warnings: [] }
  }
  context.report({ type: 'python.planned', subject: paths.env, data: { changes: plan.changes } })
  const warnings = await install(plan, context)
  context.report({ type: 'python.installed', subject: paths.env, data: { changes: plan.changes } })
  return { ...ready, warnings }
}

/** Builds what has to be built, and plans again with the wheels: only now their requirements are known. */
const withBuilds = async <T>(
  plan: PythonPlan,
  context: PythonContext & { readonly paths: OverlayPaths },
  use: (full: PythonPlan, folders: readonly string[]) => Promise<T>,
): Promise<T> => {
  const { paths } = context
  const top = await weighRequirements(paths.python, {
    requirements: [],
    overlay: null,
    signal: context.signal,
    environment: context.environment,
  })
  return withScratchPython({ ...top, sites: [paths.site, ...plan.base.sites] }, context, async (scratch) => {
    const built = await buildWheels(plan.builds, {
      ...context,
      base: plan.base,
      python: scratch.python,
      folder: join(scratch.folder, 'builds'),
      constraints: paths.constraints,
      settings: withIndexes(await readPipSettings(plan.base.prefix, context), plan.indexes),
    })
    const wheelFolders = built.map(({ folder }) => folder)
    const full = await planPython({ ...plan.request, built }, { ...context, wheelFolders })
    refuseProblems(full)
    return use(full, wheelFolders)
  })
}

const refuseProblems = (plan: PythonPlan): void => {
  const errors = plan.problems.filter((problem) => problem.severity === 'error')
  const [first] = errors
  if (first !== undefined)
    throw new AgentError(first.code, first.message, { hint: first.hint, problems: errors })
}

type InstallContext = PythonContext & {
  readonly paths: OverlayPaths
  readonly prove: (proof: ImportProof) => Promise<void>
}

const install = async (plan: PythonPlan, context: InstallContext): Promise<readonly Problem[]> => {
  const { paths } = context
  const settings = withIndexes(await readPipSettings(plan.base.prefix, context), plan.indexes)
  const before = await inspectPython(paths.python, context)
  try {
    await fetchWheels(plan.dists, { ...context, python: paths.python, settings, to: paths.wheels })
    await refuseClobbering(plan.dists, { wheels: paths.wheels, installed: before.dists })
    const at = { ...context, base: plan.base, wheels: paths.wheels }
    const check = await checkWheels(plan.dists, { ...at, top: before })
    const base = await fingerprint(plan.base.dists)
    await inTransaction(paths, {
      ...context,
      plan,
      work: async () => {
        await runInstall(plan, { ...context, settings })
        const top = await verifyInstall(plan.dists, context)
        await checkInstalled(check, { ...at, top })
        await context.prove({
          required: plan.imports,
          // A folder of several packages cannot be imported itself.
          native: check.modules.filter(
            (name) =>
              !existsSync(join(paths.site, name)) || existsSync(join(paths.site, name, '__init__.py')),
          ),
          base: plan.base,
        })
        recordBuilds(paths.env, plan.request.built ?? [])
        refuseBaseDrift(base, await fingerprint(plan.base.dists))
      },
    })
    return check.warnings
  } finally {
    await rm(paths.wheels, { recursive: true, force: true })
  }
}

const runInstall = async (
  plan: PythonPlan,
  context: InstallContext & { readonly settings: PipSettings },
): Promise<void> => {
  const { paths } = context
  const result = await runPip(
    paths.python,
    [
      'install',
      '--no-index',
      '--find-links',
      paths.wheels,
      '--no-deps',
      // A build of another commit may carry the version that is there.
      '--force-reinstall',
      '--only-binary=:all:',
      '--quiet',
      '--no-warn-script-location',
      '--requirement',
      join(paths.wheels, 'pins.txt'),
    ],
    {
      ...context,
      // Only the wheels that were checked: no index, no other folder.
      settings: { environment: {}, constraints: [] },
      variables: { [INSTALL_MARK]: paths.root },
    },
  )
  if (result.exitCode !== 0)
    throw installError(`pip cannot install ${plan.dists.map((dist) => dist.name).join(', ')}`, result)
}
