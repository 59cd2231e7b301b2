import { readFile } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import type { CommandResult } from '../platform/commands.ts'
import { runCommand } from '../platform/commands.ts'
import { cleanEnvironment, INDEX_SETTINGS, indexEnvironment, pipVariable } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { readPipConfig } from './pip-config.ts'
import { withoutLogin } from './requirement-files.ts'
import { INSTALL_MARK } from './stray-installs.ts'

/** What the machine says about packages: where they come from, and bounds that are in force on it. */
export type PipSettings = {
  readonly environment: Readonly<Record<string, string>>
  /** Lines of the constraints that PIP_CONSTRAINT or pip.conf names (NVIDIA's images have some). */
  readonly constraints: readonly string[]
}

const NO_CONFIG = '/dev/null'
/** Resolving against a slow index with long backtracking. */
const PLAN_TIMEOUT_MS = 15 * 60_000

/** Runs `python -m pip` with the settings and nothing inherited. Addresses in what it says have no logins. */
export const runPip = async (
  python: string,
  args: readonly string[],
  context: PythonContext & { readonly settings: PipSettings; readonly variables?: Record<string, string> },
): Promise<CommandResult> => {
  const result = await runCommand(
    [python, '-I', '-B', '-X', 'utf8', '-m', 'pip', ...args, '--disable-pip-version-check', '--no-input'],
    {
      env: {
        ...cleanEnvironment(context.environment),
        ...context.settings.environment,
        // The settings that count were read already; everything else in a pip.conf stays out.
        PIP_CONFIG_FILE: NO_CONFIG,
        [INSTALL_MARK]: context.folder,
        ...context.variables,
      },
      signal: context.signal,
      timeoutMs: PLAN_TIMEOUT_MS,
    },
  )
  return { ...result, stdout: withoutLogin(result.stdout), stderr: withoutLogin(result.stderr) }
}

/** Reads the machine's settings of pip: its pip.conf files, and over them the agent's environment. Starts no pip. */
export const readPipSettings = async (prefix: string, context: PythonContext): Promise<PipSettings> => {
  const fromFiles =
    context.readPipConfig === false
      ? new Map<string, string>()
      : await readPipConfig({ environment: context.environment, prefix })
  const fromEnvironment = indexEnvironment(context.environment)
  const environment: Record<string, string> = {}
  for (const setting of INDEX_SETTINGS) {
    const value = fromEnvironment[pipVariable(setting)] ?? fromFiles.get(setting)
    if (value !== undefined) environment[pipVariable(setting)] = value
  }
  const folders = [environment['PIP_FIND_LINKS'] ?? '', ...(context.wheelFolders ?? [])].filter(Boolean)
  if (folders.length > 0) environment['PIP_FIND_LINKS'] = folders.join(' ')
  const files = context.environment['PIP_CONSTRAINT'] ?? fromFiles.get('constraint') ?? ''
  return { environment, constraints: await readConstraints(files, context) }
}

/** The machine's settings with further indexes. */
export const withIndexes = (settings: PipSettings, indexes: readonly string[]): PipSettings => {
  const all = [settings.environment['PIP_EXTRA_INDEX_URL'] ?? '', ...new Set(indexes)].filter(Boolean)
  return all.length === 0
    ? settings
    : { ...settings, environment: { ...settings.environment, PIP_EXTRA_INDEX_URL: all.join(' ') } }
}

/** What pip said, as the error it means. */
export const installError = (what: string, result: CommandResult): AgentError => {
  const said = result.stderr
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('WARNING'))
    .slice(-3)
    .join(' ')
    .replaceAll('ERROR: ', '')
  const why = result.timedOut
    ? 'it took too long'
    : said || `pip ended with ${result.exitCode ?? result.signal ?? ''}`
  return new AgentError(
    /No space left on device/i.test(said) ? 'disk_full' : 'install_failed',
    `${what}: ${why}`,
  )
}

const readConstraints = async (files: string, context: PythonContext): Promise<string[]> => {
  const lines: string[] = []
  for (const file of files.split(/\s+/).filter(Boolean)) {
    const text = await readFile(file, 'utf8').catch(() => {
      context.log.warn('the constraints of this machine cannot be read', { file })
      return ''
    })
    for (const line of text.split(/\r?\n/)) {
      const content = line.replace(/(^|\s+)#.*$/, '').trim()
      if (/^[A-Za-z0-9]/.test(content)) lines.push(content)
    }
  }
  return lines
}
