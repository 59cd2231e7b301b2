import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { exists } from '../pull/place.ts'
import type { ServiceDefinition, ServiceFiles } from './service-files.ts'
import { serviceFiles } from './service-files.ts'

/** The file of a service. */
export type InstalledService = { readonly path: string }

/**
 * Writes the service and begins it; one that runs already is begun anew, since what it shall do may have changed.
 * @throws AgentError service_refused where the system's own program fails; the file stays
 */
export const installService = async (
  definition: ServiceDefinition,
  environment: Environment,
): Promise<InstalledService> => {
  const files = filesHere(definition, environment)
  const { path } = files
  await mkdir(dirname(path), { recursive: true })
  // It may have ended by itself: then there is nothing to end.
  if (await exists(path)) await runAll(files.beforeAgain)
  await writeFile(path, files.text, { mode: 0o600 })
  const refused = await runAll(files.begin)
  if (refused !== null)
    throw new AgentError(
      'service_refused',
      `${path} is written, and does not run, since this failed: ${refused}`,
    )
  return { path }
}

/**
 * Ends the service and removes its file; undefined when there is none.
 * @throws AgentError service_refused where the system's own program fails; the file is removed all the same
 */
export const uninstallService = async (
  definition: ServiceDefinition,
  environment: Environment,
): Promise<InstalledService | undefined> => {
  const files = filesHere(definition, environment)
  if (!(await exists(files.path))) return undefined
  const refused = await runAll(files.end)
  await rm(files.path)
  if (refused !== null)
    throw new AgentError(
      'service_refused',
      `${files.path} is removed, and what it began may still run, since this failed: ${refused}`,
    )
  return { path: files.path }
}

const filesHere = (definition: ServiceDefinition, environment: Environment): ServiceFiles => {
  const home = environment['HOME'] || homedir()
  return serviceFiles(definition, {
    platform: process.platform,
    home,
    configHome: environment['XDG_CONFIG_HOME'] || join(home, '.config'),
    userId: process.getuid?.() ?? 0,
  })
}

/** @returns the command that failed; null when all went well */
const runAll = async (commands: readonly (readonly string[])[]): Promise<string | null> => {
  for (const [program = '', ...args] of commands) {
    try {
      await promisify(execFile)(program, args, { timeout: 30_000 })
    } catch {
      return [program, ...args].join(' ')
    }
  }
  return null
}
