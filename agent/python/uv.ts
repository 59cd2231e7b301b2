import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { CommandResult } from '../platform/commands.ts'
import { findProgram, runCommand } from '../platform/commands.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import type { PipSettings } from './pip.ts'
import { INSTALL_MARK } from './stray-installs.ts'

/** A uv that can stand in for pip with these settings. */
export type Uv = {
  readonly program: string
  /** Where packages come from, in uv's own words. */
  readonly environment: Readonly<Record<string, string>>
  readonly args: readonly string[]
}

/** Resolving against a slow index with long backtracking. */
const PLAN_TIMEOUT_MS = 15 * 60_000

/** Settings of pip that uv has under another name. Not among them: client certificates and proxies of pip alone. */
const TRANSLATED: Readonly<Record<string, string>> = {
  PIP_INDEX_URL: 'UV_DEFAULT_INDEX',
  PIP_EXTRA_INDEX_URL: 'UV_EXTRA_INDEX_URL',
  PIP_TRUSTED_HOST: 'UV_INSECURE_HOST',
  PIP_CERT: 'SSL_CERT_FILE',
  PIP_TIMEOUT: 'UV_HTTP_TIMEOUT',
  PIP_DEFAULT_TIMEOUT: 'UV_HTTP_TIMEOUT',
  PIP_RETRIES: 'UV_HTTP_RETRIES',
}

/** The uv of this machine: beside the interpreter or on the path; undefined when pip has settings that it lacks. */
export const findUv = (
  interpreter: string,
  context: { readonly settings: PipSettings; readonly environment: PythonContext['environment'] },
): Uv | undefined => {
  const searchPath = `${dirname(interpreter)}:${cleanEnvironment(context.environment)['PATH'] ?? ''}`
  const program = findProgram('uv', searchPath)
  if (program === undefined) return undefined
  const environment: Record<string, string> = {}
  const args: string[] = []
  for (const [name, value] of Object.entries(context.settings.environment)) {
    const translated = TRANSLATED[name]
    if (translated !== undefined) environment[translated] = value
    else if (name === 'PIP_NO_INDEX') args.push(...(/^(0|no|off|false)$/i.test(value) ? [] : ['--no-index']))
    else if (name === 'PIP_FIND_LINKS') environment['UV_FIND_LINKS'] = findLinks(value)
    // Each has its own cache.
    else if (name !== 'PIP_CACHE_DIR') return undefined
  }
  return { program, environment, args }
}

/** Runs `uv pip` with the settings and nothing inherited, also none of its configuration files. */
export const runUv = (
  uv: Uv,
  args: readonly string[],
  context: Pick<PythonContext, 'environment' | 'folder' | 'signal'>,
): Promise<CommandResult> =>
  runCommand(
    [
      uv.program,
      'pip',
      ...args,
      '--no-config',
      '--no-python-downloads',
      '--no-progress',
      '--color=never',
      // pip weighs the versions of all indexes against each other; uv by itself stops at the first that has the name.
      '--index-strategy=unsafe-best-match',
      '--only-binary=:all:',
      ...uv.args,
    ],
    {
      env: { ...cleanEnvironment(context.environment), ...uv.environment, [INSTALL_MARK]: context.folder },
      signal: context.signal,
      timeoutMs: PLAN_TIMEOUT_MS,
    },
  )

/** pip separates them by blanks and passes over a folder that is not there; uv takes commas and minds. */
const findLinks = (value: string): string =>
  value
    .split(/\s+/)
    .filter((place) => place !== '' && (/^[a-z]+:/i.test(place) || existsSync(join(place, '.'))))
    .join(',')
