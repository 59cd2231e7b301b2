import { constants } from 'node:fs'
import { access, lstat, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import { errnoOf, errorText } from '../platform/files.ts'
import type { PlannedRemote, PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'
import { createRcloneCarrier } from './rclone-carrier.ts'
import type { Rclone, RcloneDeps } from './rclone.ts'
import { BUCKET_TYPES, openRclone, passedEnvironment } from './rclone.ts'
import { OWN_FOLDER } from './unit.ts'

export type CheckRemoteContext = Pick<RcloneDeps, 'searchPath' | 'temporaryFolder'> & {
  /** The agent's environment; only certificates, proxy and time zone of it reach rclone. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
  /** How long the remote may take to answer; 30 s by default. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 30_000

/**
 * Proves before a run that a sync's remote takes files with these credentials, by a real listing and by a small file
 * that is written and read back; nothing is deleted, which keys may lack. A destination that does not exist yet is fine
 * where it comes to exist by being written to, so on a disk and in a bucket, but not when the bucket is missing. On a
 * disk of this box nothing is written (docs/decisions/0006-a-plan-writes-on-remotes-alone.md).
 * @returns the problem, or null
 */
export const checkRemote = async (
  planned: PlannedSync,
  context: CheckRemoteContext,
): Promise<Problem | null> => {
  const timeoutMs = context.timeoutMs ?? TIMEOUT_MS
  const late = new AgentError(
    'remote_unreachable',
    `${destinationOf(planned)} did not answer within ${Math.round(timeoutMs / 1000)} s`,
  )
  const deadline = new AbortController()
  const timer = setTimeout(() => deadline.abort(late), timeoutMs)
  try {
    const signal = AbortSignal.any([context.signal, deadline.signal])
    if (planned.remote) await checkAccess(planned, { ...context, signal, remote: planned.remote })
    else await checkFolder(planned)
    return null
  } catch (error) {
    context.signal.throwIfAborted()
    return problemFrom(error, planned.spec.name)
  } finally {
    clearTimeout(timer)
  }
}

const ABSENT = [3, 4]

const checkAccess = async (
  planned: PlannedSync,
  context: CheckRemoteContext & { remote: PlannedRemote },
): Promise<void> => {
  const { remote } = context
  const rclone = await openRclone(remote, {
    ...context,
    environment: passedEnvironment(context.environment),
    stallMs: context.timeoutMs ?? TIMEOUT_MS,
  })
  if (remote.type === 'local') return checkFolder(planned)
  await checkListing(rclone, { remote, to: planned.to, signal: context.signal })
  await checkWriting(rclone, { ...context, remote, to: planned.to })
}

const checkListing = async (
  rclone: Rclone,
  { remote, to, signal }: { remote: PlannedRemote; to: string; signal: AbortSignal },
): Promise<void> => {
  if (await list(rclone, to, signal)) return
  if (!BUCKET_TYPES.includes(remote.type)) {
    // Made by the first copy; that the remote itself answers is what matters.
    if (await list(rclone, '', signal)) return
    throw new AgentError('sync_config', `remote ${remote.name}: its root cannot be listed`)
  }
  const [bucket = ''] = to.split('/')
  if (bucket !== to && (await list(rclone, bucket, signal))) return
  throw new AgentError('sync_config', `remote ${remote.name}: there is no bucket ${bucket}`, {
    hint: 'Make the bucket, or correct its name under sync.',
  })
}

/** Stays on the remote, one for all checks. */
const WRITTEN_PATH = `${OWN_FOLDER}/may-write`
const WRITTEN_TEXT = 'gpu-agent may write here\n'

const checkWriting = async (
  rclone: Rclone,
  { remote, to, signal, temporaryFolder }: CheckRemoteContext & { remote: PlannedRemote; to: string },
): Promise<void> => {
  const carrier = createRcloneCarrier(rclone, { type: remote.type, to, temporaryFolder })
  const folder = await mkdtemp(join(temporaryFolder, 'batch-'))
  try {
    const from = join(folder, 'may-write')
    await writeFile(from, WRITTEN_TEXT)
    const file = { from, path: WRITTEN_PATH, sizeBytes: WRITTEN_TEXT.length }
    await carrier.put([file], { signal, last: new Set(), isNew: false })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  if ((await carrier.read([WRITTEN_PATH], { signal })).get(WRITTEN_PATH) !== WRITTEN_TEXT)
    throw new AgentError(
      'sync_failed',
      `remote ${remote.name}: a small file that was written does not read back`,
    )
}

/** False: there is no such folder. */
const list = async (rclone: Rclone, path: string, signal: AbortSignal): Promise<boolean> => {
  const result = await rclone.run({
    verb: 'lsjson',
    args: [
      rclone.at(path),
      '--max-depth=1',
      '--no-modtime',
      '--no-mimetype',
      '--retries=1',
      '--low-level-retries=3',
      '--contimeout=10s',
      '--timeout=20s',
      '--use-json-log',
    ],
    signal,
    accept: ABSENT,
  })
  return result.exitCode === 0
}

const checkFolder = async ({ spec, to }: PlannedSync): Promise<void> => {
  if (isInside(to, spec.path) || isInside(spec.path, to))
    throw new AgentError('sync_config', `${to} and ${spec.path} lie inside one another`, {
      hint: 'Copy to a folder outside of what is copied.',
    })
  const existing = await nearestExisting(to)
  if (!(await stat(existing)).isDirectory())
    throw new AgentError('sync_config', `${existing} is not a folder`)
  await access(existing, constants.W_OK).catch((error: unknown) => {
    const what = existing === to ? to : `${to} (it would be made in ${existing})`
    throw new AgentError('sync_config', `cannot write to ${what}: ${errorText(error)}`, { cause: error })
  })
}

const isInside = (path: string, folder: string): boolean => {
  const between = relative(folder, path)
  return !between.startsWith('..') && !isAbsolute(between)
}

const nearestExisting = async (path: string): Promise<string> => {
  try {
    await lstat(path)
    return path
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '') || dirname(path) === path) throw error
    return nearestExisting(dirname(path))
  }
}
