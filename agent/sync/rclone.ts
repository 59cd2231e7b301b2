import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import type { CommandResult } from '../platform/commands.ts'
import { findProgram, runCommand } from '../platform/commands.ts'
import { classifyFailure } from './classify-failure.ts'
import type { PlannedRemote } from './planned-sync.ts'
import { readOptions } from './rclone-options.ts'

export type RcloneDeps = {
  /** Where rclone is looked for; also the PATH it gets (ssh, for sftp). */
  readonly searchPath: string
  /** The only settings of the agent's environment that rclone sees: certificates, proxy, time zone. */
  readonly environment: Readonly<Record<string, string>>
  /** A private folder; homes and lists of single calls come and go in it. */
  readonly temporaryFolder: string
  /** rclone is killed when its bytes stand still for this long (S39). */
  readonly stallMs: number
}

/** Names of the agent's environment that rclone may see; RCLONE_* and AWS_* change its behaviour silently (S24). */
const PASSED_ENVIRONMENT: readonly string[] = [
  'TZ',
  'LANG',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
]

/** What of the agent's environment rclone may see. */
export const passedEnvironment = (
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> => {
  const passed: Record<string, string> = {}
  for (const name of PASSED_ENVIRONMENT) {
    const value = environment[name] ?? environment[name.toLowerCase()]
    if (value !== undefined) passed[name] = value
  }
  return passed
}

/** Every way rclone is ever called. Verbs that delete or move do not exist here. */
export type RcloneVerb = 'copy' | 'copyto' | 'lsjson'

export type RcloneCall = {
  readonly verb: RcloneVerb
  readonly args: readonly string[]
  readonly signal: AbortSignal
  readonly onLine?: (line: string) => void
  readonly onProgress?: (bytesDone: number) => void
  /** Exit statuses that are answers rather than failures: 3 and 4 say “there is no such thing”. */
  readonly accept?: readonly number[]
}

export type Rclone = {
  readonly version: string
  /** Runs rclone once with this remote in its environment. @throws AgentError as classifyFailure says */
  run(call: RcloneCall): Promise<CommandResult>
  /** `name:path` for arguments. */
  at(path: string): string
}

/** Bucket stores show an object only when it is whole; elsewhere an old rclone leaves parts under final names (S27). */
export const BUCKET_TYPES: readonly string[] = [
  's3',
  'b2',
  'gcs',
  'google cloud storage',
  'googlecloudstorage',
  'azureblob',
  'swift',
  'oos',
  'qingstor',
]
const SAFE_MINOR = 63

/**
 * rclone made ready for one remote: found by absolute path, new enough, options known, passwords obscured.
 * @throws AgentError program_missing, sync_config
 */
export const openRclone = async (
  remote: PlannedRemote,
  deps: RcloneDeps & { signal: AbortSignal },
): Promise<Rclone> => {
  const program = findProgram('rclone', deps.searchPath)
  if (program === undefined)
    throw new AgentError('program_missing', `rclone is not on this box (looked in ${deps.searchPath})`, {
      hint: 'Install rclone 1.63 or newer on the box; it carries every remote.',
    })
  const plain = plainEnvironment(deps, deps.temporaryFolder)
  const version = await readVersion(program, plain, deps.signal)
  const isBucket = BUCKET_TYPES.includes(remote.type)
  if (!isBucket && !isAtLeast(version, SAFE_MINOR))
    throw new AgentError(
      'program_missing',
      `rclone ${version} at ${program} is too old for a remote of type ${remote.type}: a copy that ends early leaves a cut-off file under the final name`,
      { hint: 'Install rclone 1.63 or newer on the box.' },
    )
  const options = await readOptions(remote, { program, plain, signal: deps.signal })
  // rclone reads variables with “_” only.
  const name = remote.name.replaceAll('-', '_')
  const configured: Record<string, string> = { [`RCLONE_CONFIG_${name.toUpperCase()}_TYPE`]: remote.type }
  for (const [key, value] of Object.entries(options))
    configured[`RCLONE_CONFIG_${name.toUpperCase()}_${key.toUpperCase()}`] = value

  return {
    version,
    at: (path) => `${name}:${path}`,
    run: async (call) => {
      const home = join(deps.temporaryFolder, `rclone-${randomBytes(6).toString('hex')}`)
      await mkdir(home, { recursive: true, mode: 0o700 })
      const watch = watchProgress(deps.stallMs, call)
      try {
        const result = await runCommand([program, call.verb, ...call.args], {
          env: { ...plainEnvironment(deps, home), ...configured },
          signal: watch.signal,
          onErrorLine: watch.onErrorLine,
          onOutputLine: watch.onOutputLine,
        })
        if (result.exitCode === 0 || call.accept?.includes(result.exitCode ?? -1)) return result
        throw classifyFailure(result, { remote, verb: call.verb })
      } finally {
        watch.stop()
        await rm(home, { recursive: true, force: true })
      }
    },
  }
}

/** RCLONE_CONFIG="" keeps refreshed tokens off the disk (S22) and the user's own configuration out. */
const plainEnvironment = (deps: RcloneDeps, home: string): Readonly<Record<string, string>> => ({
  ...deps.environment,
  PATH: deps.searchPath,
  HOME: home,
  RCLONE_CONFIG: '',
})

const readVersion = async (
  program: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<string> => {
  const { stdout } = await runCommand([program, 'version'], { env, signal, timeoutMs: 10_000 })
  const version = /^rclone v(\d+\.\d+\.\d+\S*)/m.exec(stdout)?.[1]
  if (version === undefined)
    throw new AgentError('program_missing', `${program} does not say a version of rclone`)
  return version
}

const isAtLeast = (version: string, minor: number): boolean => {
  const [have = 0, haveMinor = 0] = version.split('.').map(Number)
  return have > 1 || (have === 1 && haveMinor >= minor)
}

/** Ends the call when neither bytes nor lines come for `stallMs`; turns statistics lines into progress. */
const watchProgress = (stallMs: number, call: RcloneCall) => {
  const stalled = new AbortController()
  const timer = setTimeout(() => {
    const seconds = Math.round(stallMs / 1000)
    stalled.abort(new AgentError('sync_failed', `rclone ${call.verb} made no progress for ${seconds} s`))
  }, stallMs)
  let bytes = -1
  return {
    signal: AbortSignal.any([call.signal, stalled.signal]),
    stop: () => clearTimeout(timer),
    onOutputLine: (line: string): void => {
      timer.refresh()
      call.onLine?.(line)
    },
    onErrorLine: (line: string): void => {
      const done = readBytesDone(line)
      if (done === undefined || done === bytes) return
      bytes = done
      timer.refresh()
      call.onProgress?.(done)
    },
  }
}

const Statistics = z.object({ stats: z.object({ bytes: z.number() }) })

/** Lines that are not JSON or no statistics are for people: undefined. */
const readBytesDone = (line: string): number | undefined => {
  if (!line.includes('"stats"')) return undefined
  try {
    return Statistics.parse(JSON.parse(line)).stats.bytes
  } catch {
    return undefined
  }
}

/**
 * Ends rclones that an agent which was killed left behind: they are known by their home inside our private folder.
 * @returns how many were ended
 */
export const reapOrphans = async (temporaryFolder: string): Promise<number> => {
  let ended = 0
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    if (!environment.split('\0').some((line) => line.startsWith(`HOME=${temporaryFolder}/rclone-`))) continue
    try {
      process.kill(Number(pid), 'SIGTERM')
      ended += 1
    } catch {
      // It ended by itself in between.
    }
  }
  return ended
}

/** Removes what calls of an agent that was killed left in our private folder. */
export const sweepTemporaryFolder = async (temporaryFolder: string): Promise<void> => {
  const names = await readdir(temporaryFolder).catch(() => [] as string[])
  for (const name of names)
    if (/^(rclone|batch|record)-/.test(name))
      await rm(join(temporaryFolder, name), { recursive: true, force: true })
}
