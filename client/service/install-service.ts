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

/** What became of a service: its file, and the command that could not be run, where there is one. */
export type InstalledService = { readonly path: string; readonly refused: string | null }

/** Writes the service and begins it. Where the system's own program fails, the file stays and the command is told. */
export const installService = async (
  definition: ServiceDefinition,
  environment: Environment,
): Promise<InstalledService> => {
  const files = filesHere(definition, environment)
  await mkdir(dirname(files.path), { recursive: true })
  await writeFile(files.path, files.text, { mode: 0o600 })
  return { path: files.path, refused: await runAll(files.begin) }
}

/** Why a service that was written does not run. */
export const notRunning = (path: string, refused: string): AgentError =>
  new AgentError('service_refused', `${path} is written, and does not run, since this failed: ${refused}`)

/** Ends the service and removes its file; undefined when there is none. */
export const uninstallService = async (
  definition: ServiceDefinition,
  environment: Environment,
): Promise<InstalledService | undefined> => {
  const files = filesHere(definition, environment)
  if (!(await exists(files.path))) return undefined
  const refused = await runAll(files.end)
  await rm(files.path)
  return { path: files.path, refused }
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
