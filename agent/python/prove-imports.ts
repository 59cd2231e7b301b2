import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { ImportOutcome, ProbeContext } from './probe-imports.ts'
import { probeImports } from './probe-imports.ts'

/** What is imported after an install, and why. */
export type ImportProof = {
  /** The manifest's own: each has to import. */
  readonly required: readonly string[]
  /** Of the packages that came with shared objects: none may end Python or fail in the loader. */
  readonly native: readonly string[]
  /** The image's Python, whose own packages have to import as well as before; null when nothing was installed. */
  readonly base: { readonly interpreter: string; readonly sites: readonly string[] } | null
}

/** What an image is about. An install that breaks one of these has broken the image. */
const CANARIES = ['torch', 'torchvision', 'torchaudio', 'numpy', 'cv2', 'xformers', 'transformer_engine']

/**
 * Imports with the Python that the processes will use.
 * @throws AgentError import_failed, naming every module that failed and Python's own words
 */
export const proveImports = async (proof: ImportProof, context: ProbeContext): Promise<void> => {
  const canaries = CANARIES.filter((name) => proof.base?.sites.some((site) => isThere(site, name)))
  const modules = [...new Set([...proof.required, ...canaries, ...proof.native])]
  if (modules.length === 0) return
  const failed = (await probeImports(modules, context)).filter(({ failure }) => failure !== null)
  const suspects = failed.filter(({ module }) => !proof.required.includes(module))
  const brokenBefore = await failingInImage(
    suspects.map(({ module }) => module).filter((module) => canaries.includes(module)),
    { ...context, base: proof.base },
  )
  const failures = failed.flatMap((outcome) => {
    const { module } = outcome
    if (proof.required.includes(module)) return [`import ${module}${saidOf(outcome)}`]
    if (canaries.includes(module))
      return brokenBefore.has(module)
        ? []
        : [`import ${module}${saidOf(outcome)}; it imports without this install`]
    return outcome.isCrash || LOADER.test(outcome.failure ?? '') ? [`import ${module}${saidOf(outcome)}`] : []
  })
  if (failures.length > 0) throw new AgentError('import_failed', failures.join('; '))
  if (proof.required.length > 0)
    context.report({
      type: 'python.imports-proven',
      subject: context.python,
      data: { modules: proof.required },
    })
}

/** Words of the loader and of numpy's C interface. A library of the driver may be absent where there is no GPU. */
const LOADER =
  /undefined symbol|(?<!libcuda\.so\.1|libnvidia-ml\.so\.1): cannot open shared object|version `[^']+' not found|PyInit_|numpy\.core\.multiarray|compiled using NumPy|operator \S+ does not exist/

const saidOf = ({ failure, isCrash }: ImportOutcome): string => {
  const said = failure ?? ''
  return isCrash || said.startsWith('finds ') ? ` ${said}` : `: ${said}`
}

const isThere = (site: string, name: string): boolean =>
  existsSync(join(site, name, '__init__.py')) || existsSync(join(site, `${name}.py`))

/** An image is rarely without faults; what its own Python cannot import either is not the install's doing. */
const failingInImage = async (
  modules: readonly string[],
  context: ProbeContext & Pick<ImportProof, 'base'>,
): Promise<ReadonlySet<string>> => {
  const { base } = context
  if (base === null || modules.length === 0) return new Set()
  const outcomes = await probeImports(modules, { ...context, python: base.interpreter, variables: {} })
  return new Set(outcomes.filter(({ failure }) => failure !== null).map(({ module }) => module))
}
