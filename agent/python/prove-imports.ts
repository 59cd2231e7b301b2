import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { runCommand } from '../platform/commands.ts'
import { programFile } from '../platform/program-file.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { INSTALL_MARK } from './stray-installs.ts'

const SCRIPT = programFile(import.meta.dirname, 'import-probe.py', 'python-import-probe.py')

type ProofContext = PythonContext & {
  readonly python: string
  /** What the processes will have too. */
  readonly variables: Readonly<Record<string, string>>
  /** Time for all modules together; torch and its like need seconds each, on a cold disk minutes. */
  readonly timeoutMs: number
}

type Line = {
  readonly begin?: string
  readonly module?: string
  readonly error?: string
  readonly ghost?: boolean
  readonly path?: readonly string[]
}

/**
 * Imports every module with the Python that the processes will use, without a GPU, in a process group of its own.
 * @throws AgentError import_failed, naming every module that failed and Python's own words
 */
export const proveImports = async (modules: readonly string[], context: ProofContext): Promise<void> => {
  if (modules.length === 0) return
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
    const failures = lines.flatMap((line) => failureOf(line))
    const last = lines.at(-1)
    if (last?.begin !== undefined) {
      const end = result.timedOut
        ? `did not end within ${context.timeoutMs / 1000} s`
        : `ended Python with ${result.signal ?? `exit ${result.exitCode ?? 'unknown'}`}`
      failures.push(`import ${last.begin} ${end}`)
    } else if (result.exitCode !== 0)
      failures.push(`Python failed: ${result.stderr.trim().split('\n').at(-1) ?? ''}`)
    if (failures.length > 0) throw new AgentError('import_failed', failures.join('; '))
    context.report({ type: 'python.imports-proven', subject: context.python, data: { modules } })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const failureOf = (line: Line): string[] => {
  if (line.error !== undefined) return [`import ${line.module ?? ''}: ${line.error}`]
  if (line.ghost)
    return [
      `import ${line.module ?? ''} finds only a folder without a package (${line.path?.join(', ') ?? ''})`,
    ]
  return []
}
