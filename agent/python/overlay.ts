import { createHash } from 'node:crypto'
import { existsSync, realpathSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { runCommand } from '../platform/commands.ts'
import { atomicWrite, errorText } from '../platform/files.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import type { PythonFacts } from './inspect-python.ts'
import { INSTALL_MARK } from './stray-installs.ts'

/*
 * An overlay is a virtual environment stacked on another Python: it imports the base's packages, and whatever is
 * installed goes into the overlay. The base is never written, so taking an install back is two renames.
 */

/** Where one overlay and everything about it lies. All on one file system, so that renames are atomic. */
export type OverlayPaths = {
  readonly root: string
  /** The virtual environment itself; its path never changes, for its scripts name it. */
  readonly env: string
  readonly python: string
  readonly bin: string
  readonly site: string
  readonly journal: string
  readonly lock: string
  readonly constraints: string
  readonly wheels: string
}

/** How processes use an overlay: known before it is made. */
export type PythonUse = {
  readonly interpreter: string
  /** Goes first on their PATH. */
  readonly binFolder: string
  /** What they need in their environment. */
  readonly environment: Readonly<Record<string, string>>
}

/** A virtual environment as its activate script would set it, and the bounds for whatever installs at run time. */
export const pythonUse = (paths: OverlayPaths): PythonUse => ({
  interpreter: paths.python,
  binFolder: paths.bin,
  environment: {
    VIRTUAL_ENV: paths.env,
    PYTHONNOUSERSITE: '1',
    PIP_CONSTRAINT: paths.constraints,
    PIP_BUILD_CONSTRAINT: paths.constraints,
    UV_CONSTRAINT: paths.constraints,
  },
})

/** The name of the file that stacks the base under the overlay; written last, it says the overlay is whole. */
const STACK = '_agent_base.pth'

/** The folder of a Python's overlay: another Python, or another version of it, has another one. */
export const overlayRoot = (folder: string, base: PythonFacts): string => {
  const key = [base.prefix, base.version, realpathSync(base.interpreter)].join('\n')
  return join(folder, createHash('sha256').update(key).digest('hex').slice(0, 12))
}

export const overlayPaths = (root: string, version: string): OverlayPaths => {
  const env = join(root, 'env')
  const minor = version.split('.').slice(0, 2).join('.')
  return {
    root,
    env,
    python: join(env, 'bin', 'python'),
    bin: join(env, 'bin'),
    site: join(env, 'lib', `python${minor}`, 'site-packages'),
    journal: join(root, 'journal.json'),
    lock: join(root, 'lock'),
    constraints: join(root, 'protected.txt'),
    wheels: join(root, 'wheels'),
  }
}

/** True when the overlay was made to its end. */
export const overlayExists = (paths: OverlayPaths): boolean => existsSync(join(paths.site, STACK))

/**
 * Makes an overlay where there is none. A half-made one is made again.
 * @throws AgentError overlay_failed
 */
export const ensureOverlay = async (
  paths: OverlayPaths,
  context: PythonContext & { readonly base: PythonFacts },
): Promise<void> => {
  if (overlayExists(paths)) return
  await rm(paths.env, { recursive: true, force: true })
  await makeStackedEnvironment(paths, { ...context, sites: context.base.sites })
}

/**
 * A virtual environment on top of other site folders.
 * `site.addsitedir` rather than bare paths: the .pth files of the base run too (editable installs need theirs).
 * @throws AgentError overlay_failed, disk_full, read_only
 */
export const makeStackedEnvironment = async (
  paths: Pick<OverlayPaths, 'env' | 'python' | 'site'>,
  context: PythonContext & { readonly base: PythonFacts; readonly sites: readonly string[] },
): Promise<void> => {
  const { base } = context
  const run = async (argv: readonly string[]): Promise<void> => {
    const result = await runCommand(argv, {
      env: { ...cleanEnvironment(context.environment), [INSTALL_MARK]: context.folder },
      signal: context.signal,
      timeoutMs: 120_000,
    })
    if (result.exitCode === 0) return
    const said = (result.stderr || result.stdout).trim().split('\n').slice(-3).join(' ')
    const code = /No space left|quota exceeded/i.test(said)
      ? 'disk_full'
      : /Read-only file system/i.test(said)
        ? 'read_only'
        : 'overlay_failed'
    throw new AgentError(code, `${argv.join(' ')} failed: ${said || `exit ${result.exitCode}`}`)
  }
  await run([base.interpreter, '-I', '-B', '-m', 'venv', '--without-pip', paths.env])
  if (!base.hasPip) await run([paths.python, '-I', '-B', '-m', 'ensurepip'])
  const stack = context.sites.map((site) => `site.addsitedir(${pythonText(site)})`).join('; ')
  try {
    await mkdir(paths.site, { recursive: true })
    atomicWrite(join(paths.site, STACK), `import site; ${stack}\n`)
  } catch (error) {
    throw new AgentError('overlay_failed', `cannot make ${paths.env}: ${errorText(error)}`, { cause: error })
  }
}

/** A path as a literal of Python in plain ASCII: older Pythons read .pth files in the encoding of the locale. */
const pythonText = (text: string): string => {
  const escape = (character: string): string =>
    `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, '0')}`
  return `'${text.replaceAll(/[^ -~]|['\\]/gu, escape)}'`
}
