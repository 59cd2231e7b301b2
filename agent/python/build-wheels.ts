import { readFile, readdir, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { findProgram } from '../platform/commands.ts'
import { joinInside } from '../platform/files.ts'
import type { BuiltWheel, GitInstall } from './built-wheels.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import { cloneCustomNodes } from './custom-nodes.ts'
import { sha256Of } from './fetch-wheels.ts'
import type { PythonFacts } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import { makeStackedEnvironment, overlayPaths } from './overlay.ts'
import type { PipSettings } from './pip.ts'
import { installError, runPip } from './pip.ts'
import { withZip } from './zip-archive.ts'

type BuildContext = PythonContext & {
  readonly base: PythonFacts
  /** A Python that may be written to: a scratch one, stacked on everything. */
  readonly python: string
  /** An empty folder for sources and wheels. */
  readonly folder: string
  /** A file with the lines that hold the protected dists. */
  readonly constraints: string
  readonly settings: PipSettings
}

/**
 * Builds wheels from repositories, each at its commit. A build runs the code of its author, which the manifest asked
 * for; it gets no other torch than the one that is there: the constraints reach isolated builds by both variables that
 * pip has had for them, and a build that needs torch is not isolated.
 * @throws AgentError program_missing, custom_node_failed, forbidden_address, install_failed
 */
export const buildWheels = async (
  builds: readonly GitInstall[],
  context: BuildContext,
): Promise<readonly BuiltWheel[]> => {
  const git = findProgram('git', cleanEnvironment(context.environment)['PATH'] ?? '')
  if (git === undefined) throw new AgentError('program_missing', 'git is needed to build from a repository')
  const built: BuiltWheel[] = []
  for (const [index, build] of builds.entries()) {
    const folder = join(context.folder, String(index))
    const sources = join(folder, 'source')
    await mkdir(sources, { recursive: true })
    const problems = await cloneCustomNodes([{ git: build.git, ref: build.ref, optional: false }], {
      folder: sources,
      git,
      allowHosts: context.allowHosts ?? [],
      environment: context.environment,
      signal: context.signal,
      report: context.report,
    })
    const failure = problems.find(({ severity }) => severity === 'error')
    if (failure !== undefined) throw new AgentError(failure.code, failure.message, { hint: failure.hint })
    built.push(
      await buildWheel(build, { ...context, folder, source: joinInside(sources, nodeFolderName(build.git)) }),
    )
  }
  return built
}

const buildWheel = async (
  build: GitInstall,
  context: BuildContext & { readonly source: string },
): Promise<BuiltWheel> => {
  const wheels = join(context.folder, 'wheels')
  const project = await readFile(join(context.source, 'pyproject.toml'), 'utf8').catch(() => '')
  const isolated = !build.no_build_isolation && !needsTorch(project)
  // pip’s isolation hides its own environment, but not the one below: it is given one that stands on nothing.
  const plain = overlayPaths(join(context.folder, 'plain'), context.base.version)
  if (isolated) await makeStackedEnvironment(plain, { ...context, sites: [] })
  const result = await runPip(
    context.python,
    [
      ...(isolated ? ['--python', plain.python] : []),
      'wheel',
      '--no-deps',
      '--quiet',
      ...(isolated ? [] : ['--no-build-isolation']),
      '--wheel-dir',
      wheels,
      context.source,
    ],
    {
      ...context,
      variables: {
        PIP_CONSTRAINT: context.constraints,
        PIP_BUILD_CONSTRAINT: context.constraints,
        // pip starts itself again in the other Python, from files that may be the image’s.
        PYTHONDONTWRITEBYTECODE: '1',
      },
    },
  )
  if (result.exitCode !== 0) throw installError(`${build.git} cannot be built`, result)
  const file = (await readdir(wheels).catch(() => [])).find((name) => name.endsWith('.whl'))
  if (file === undefined) throw new AgentError('install_failed', `building ${build.git} made no wheel`)
  const path = join(wheels, file)
  const metadata = await readMetadata(path)
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}:\\s*(.+)$`, 'm').exec(metadata)?.[1]?.trim()
  return {
    git: build.git,
    ref: build.ref,
    noDeps: build.no_deps,
    name: canonicalName(field('Name') ?? ''),
    version: field('Version') ?? '',
    sha256: await sha256Of(path),
    requires: [...metadata.matchAll(/^Requires-Dist:\s*(.+)$/gm)].map(([, line]) => (line ?? '').trim()),
    folder: wheels,
  }
}

/** True when the build's own requirements name torch: an isolated build would bring another one. */
const needsTorch = (project: string): boolean => {
  const requires = /^\s*requires\s*=\s*\[([^\]]*)\]/m.exec(project.slice(project.indexOf('[build-system]')))
  return /['"]torch\b/.test(requires?.[1] ?? '')
}

/** The head of a wheel's METADATA; its description comes after an empty line. */
const readMetadata = (path: string): Promise<string> =>
  withZip(path, async (zip) => {
    const entry = zip.entries.find(({ name }) => /^[^/]+\.dist-info\/METADATA$/.test(name))
    if (entry === undefined) throw new AgentError('install_failed', `${path} has no METADATA`)
    return (await zip.read(entry)).toString('utf8').split(/\r?\n\r?\n/)[0] ?? ''
  })
