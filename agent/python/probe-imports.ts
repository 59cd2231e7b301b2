import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../platform/commands.ts'
import { programFile } from '../platform/program-file.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { INSTALL_MARK } from './stray-installs.ts'

const SCRIPT = programFile(import.meta.dirname, 'import-probe.py', 'python-import-probe.py')

/** Where and how modules are imported. */
export type ProbeContext = PythonContext & {
  readonly python: string
  /** What the processes will have too. */
  readonly variables: Readonly<Record<string, string>>
  /** Time for all modules together; torch and its like need seconds each, on a cold disk minutes. */
  readonly timeoutMs: number
}

/** What importing one module came to. */
export type ImportOutcome = {
  readonly module: string
  /** Python's own words, or how it ended; null when all is well. */
  readonly failure: string | null
  /** True when the import took Python with it, or never ended. */
  readonly isCrash: boolean
}

/**
 * Imports modules one after the other, without a GPU, in a process group of its own. One that ends Python is named, and
 * the rest goes on in another process; where it takes an earlier import to end it, that one is looked for.
 */
export const probeImports = async (
  modules: readonly string[],
  context: ProbeContext,
): Promise<readonly ImportOutcome[]> => {
  const outcomes: ImportOutcome[] = []
  let rest = modules
  while (rest.length > 0) {
    const { done, died } = await runProbe(rest, context)
    outcomes.push(...done)
    if (died === undefined) break
    const culprit = died.timedOut
      ? undefined
      : await findCulprit(died.module, {
          earlier: done.map(({ module }) => module),
          crashes: async (tried) => (await runProbe(tried, context)).died?.module === died.module,
        })
    const after = culprit === undefined ? '' : ` after import ${culprit}, and not without it`
    outcomes.push({ module: died.module, failure: `${died.end}${after}`, isCrash: true })
    // What never ends has used up the time of all.
    rest = died.timedOut ? [] : rest.slice(done.length + 1)
  }
  return outcomes
}

/** The earlier import without which a module does not crash, by halving; undefined when it crashes alone. */
const findCulprit = async (
  module: string,
  of: {
    readonly earlier: readonly string[]
    readonly crashes: (modules: readonly string[]) => Promise<boolean>
  },
): Promise<string | undefined> => {
  if (await of.crashes([module])) return undefined
  let suspects = of.earlier
  while (suspects.length > 1) {
    const half = suspects.slice(0, Math.ceil(suspects.length / 2))
    suspects = (await of.crashes([...half, module])) ? half : suspects.slice(half.length)
  }
  return suspects[0]
}

type Line = {
  readonly begin?: string
  readonly module?: string
  readonly error?: string
  readonly ghost?: boolean
  readonly path?: readonly string[]
}

type Probe = {
  readonly done: readonly ImportOutcome[]
  readonly died: { readonly module: string; readonly end: string; readonly timedOut: boolean } | undefined
}

const runProbe = async (modules: readonly string[], context: ProbeContext): Promise<Probe> => {
  const folder = await mkdtemp(join(context.folder, 'scratch-'))
  try {
    const output = join(folder, 'imports.jsonl')
    const result = await runCommand([context.python, '-I', '-B', '-X', 'utf8', SCRIPT, output, ...modules], {
      cwd: folder,
      env: {
        ...cleanEnvironment(context.environment),
        ...context.variables,
        CUDA_VISIBLE_DEVICES: '',
        [INSTALL_MARK]: context.folder,
      },
      signal: context.signal,
      timeoutMs: context.timeoutMs,
    })
    const text = await readFile(output, 'utf8').catch(() => '')
    const lines = text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Line)
    const done = lines.flatMap((line) =>
      line.module === undefined ? [] : [{ module: line.module, failure: failureOf(line), isCrash: false }],
    )
    const module = modules[done.length]
    if (module === undefined) return { done, died: undefined }
    const { timedOut, signal, exitCode, stderr } = result
    const end = timedOut
      ? `did not end within ${context.timeoutMs / 1000} s`
      : lines.at(-1)?.begin === undefined
        ? `Python failed before it: ${stderr.trim().split('\n').at(-1) ?? ''}`
        : `ended Python with ${signal ?? `exit ${exitCode ?? 'unknown'}`}`
    return { done, died: { module, end, timedOut } }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const failureOf = ({ error, ghost, path }: Line): string | null =>
  error ?? (ghost ? `finds only a folder without a package (${path?.join(', ') ?? ''})` : null)
