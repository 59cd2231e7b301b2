import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { PythonCheck } from '../../shared/contract/python-records.ts'
import type { Python } from '../../shared/manifest/schema.ts'
import { checkAbi } from './abi/check-abi.ts'
import { coupledDists } from './abi/coupled-dists.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { damageOf } from './dist-record.ts'
import { layoutOf, versionOf } from './environment-layout.ts'
import { explainFindings } from './explain-findings.ts'
import type { WeighedPython } from './inspect-python.ts'
import { inspectPython, weighRequirements } from './inspect-python.ts'
import { overlayExists, overlayPaths, overlayRoot } from './overlay.ts'
import { protectedDists } from './protected.ts'
import { checkTorchFit } from './torch-fit.ts'

/**
 * Looks at a Python and its overlay: would every shared object load, are its packages whole, is what they require
 * there? Runs none of its code and changes nothing. What the image brought along is a warning, for an image is
 * rarely without; what installs brought is an error.
 * @throws AgentError no_interpreter
 */
export const checkPython = async (request: Python, context: PythonContext): Promise<PythonCheck> => {
  const base = await inspectPython(request.interpreter, context)
  const root = overlayRoot(context.folder, base)
  const paths = overlayPaths(root, base.version)
  const stacked = overlayExists(paths)
  const top = await weighRequirements(stacked ? paths.python : base.interpreter, {
    requirements: [],
    overlay: null,
    signal: context.signal,
    environment: context.environment,
  })
  const isOurs = (path: string): boolean => path.startsWith(`${root}/`)
  const coupled = await coupledDists(
    top.dists.filter((dist) => !isOurs(dist.location)),
    context,
  )
  const searchPath = cleanEnvironment(context.environment)['PATH'] ?? ''
  const layout = await layoutOf({ base, top, environment: context.environment })
  const answer = await checkAbi(layout, context)
  const explain = (ours: boolean) =>
    explainFindings(
      answer.findings.filter(({ path }) => isOurs(path) === ours),
      {
        ownerOf: () => undefined,
        torch: versionOf(top.dists, 'torch'),
        numpy: layout.numpy,
        searchPath,
        signal: context.signal,
      },
    )
  return {
    interpreter: base.interpreter,
    version: base.version,
    overlay: stacked ? paths.env : null,
    packages: top.dists.length,
    sharedObjects: answer.objects,
    fingerprint: fingerprintOf(top),
    protected: [...protectedDists(top, { protect: request.protect, coupled })].map(([name, version]) => ({
      name,
      version,
    })),
    problems: [
      ...(await explain(true)),
      ...(stacked ? await damagedInstalls(top, { site: paths.site, isOurs }) : []),
      ...(await checkTorchFit(layout.sites, context)),
      ...(await explain(false)).map((problem) => ({ ...problem, severity: 'warning' as const })),
      ...top.unreadable.map((path) =>
        problem(
          path,
          `the metadata in ${path} cannot be read; no pip works beside it`,
          isOurs(path) ? 'error' : 'warning',
        ),
      ),
      ...unmetRequirements(top),
    ],
  }
}

const fingerprintOf = ({ dists }: WeighedPython): string => {
  const lines = dists.map(({ name, version }) => `${name}==${version}\n`).sort()
  return createHash('sha256').update(lines.join('')).digest('hex')
}

const problem = (subject: string, message: string, severity: Problem['severity']): Problem => ({
  code: severity === 'error' ? 'install_failed' : 'requirement_conflict',
  severity,
  subject,
  message,
  hint:
    severity === 'error'
      ? 'Take the last install back: agentctl python rollback; or install the package again.'
      : ERROR_CODES.requirement_conflict.hint,
})

/** What an interrupted or foreign install leaves: half-removed packages, and files that are not as they came. */
const damagedInstalls = async (
  top: WeighedPython,
  of: { readonly site: string; readonly isOurs: (path: string) => boolean },
): Promise<Problem[]> => {
  const found = (await readdir(of.site))
    .filter((name) => name.startsWith('~'))
    .map((name) => problem(name, `${join(of.site, name)} was left by an install that did not end`, 'error'))
  for (const dist of top.dists.filter(({ location }) => of.isOurs(location))) {
    const damage = await damageOf(dist)
    if (damage !== undefined)
      found.push(problem(dist.name, `${dist.name} ${dist.version}: ${damage}`, 'error'))
  }
  return found
}

const unmetRequirements = (top: WeighedPython): Problem[] =>
  Object.entries(top.unmet).map(([name, lines]) => ({
    ...problem(name, `${name} requires ${lines.join(', ')}, which is not there`, 'warning'),
    hint: 'Add it to python.install where the package is used.',
  }))
