import { rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { formatCount, formatSize } from '../../shared/contract/units.ts'
import { makeFolders } from '../../shared/make-folders.ts'
import type { Api } from '../api.ts'
import type { Environment } from '../command.ts'
import type { Output } from '../output/output.ts'
import { asAgentError } from '../exit.ts'
import { takeLock } from '../lock.ts'
import { sleep } from '../wait.ts'
import { readBegun, writeBegun } from './begun.ts'
import type { Checkpoint } from './checkpoint.ts'
import { resolveCheckpoint } from './checkpoint.ts'
import { createFallback } from './fallback.ts'
import { isThatFile } from './hash-file.ts'
import type { Journal } from './journal.ts'
import { openJournal } from './journal.ts'
import { exists, place, removeFolder } from './place.ts'
import { pullFiles } from './pull-files.ts'
import type { RemoteCopy } from './remote-copy.ts'
import { findRemoteCopy } from './remote-copy.ts'
import { joinInside } from './safe-path.ts'
import { createMeter } from './speed.ts'
import { checkSpace, removeForeign, syncFolders } from './staging.ts'

/** What to pull, and the folder that gets it. */
export type PullRequest = {
  /** `latest`, or a checkpoint's name. */
  readonly name: string
  readonly sync: string | undefined
  readonly to: string
  /** The digest that this process has pulled and proven already: a folder of it is not read again. */
  readonly proven?: string | undefined
}

export type Pulled = {
  readonly name: string
  readonly sync: string
  readonly digest: string
  readonly files: number
  readonly sizeBytes: number
  /** The checkpoint's folder here, or its file where it is a single one. */
  readonly path: string
  /** True when it was here already, whole and proven. */
  readonly unchanged: boolean
  /** Where another version that had the name is now. */
  readonly previous: string | null
}

type PullDeps = {
  readonly api: Api
  readonly output: Output
  readonly signal: AbortSignal
  /** For the user's own rclone, which may know the remote when the box has gone. */
  readonly environment: Environment
}

/** A checkpoint that changes under the transfer is resolved again; one that never rests is not. */
const MAX_CHANGES = 3

/**
 * Brings one complete checkpoint here. It is put together in `NAME.partial`, which survives a kill of either side,
 * and gets its name only when every file has been proven, so what is called `NAME` is always whole.
 * @throws AgentError not_found, disk_too_small, busy, checkpoint_changed, hash_mismatch, unsafe_path, unreachable
 */
export const pullCheckpoint = async (request: PullRequest, deps: PullDeps): Promise<Pulled> => {
  let checkpoint: Checkpoint
  try {
    checkpoint = await resolveCheckpoint(request, deps.api)
  } catch (error) {
    return await goOnWithout(error, request, deps)
  }
  for (let changes = 0; ; changes += 1) {
    try {
      return await pullResolved(checkpoint, request, deps)
    } catch (error) {
      // It was there when it was resolved, so “not found” in the middle is a change too.
      const isChange = ['checkpoint_changed', 'not_found'].includes(asAgentError(error).code)
      if (!isChange || changes === MAX_CHANGES) throw error
      deps.output.note(`${checkpoint.name} changed on the box; resolving it again`)
      checkpoint = await resolveAgain(request, deps)
    }
  }
}

/**
 * Brings a pull that was begun to its end from the remote, where the box is away for good perhaps.
 * @throws the error that the box was away with, where that cannot be
 */
const goOnWithout = async (error: unknown, request: PullRequest, deps: PullDeps): Promise<Pulled> => {
  const away = asAgentError(error)
  const begun = away.code === 'unreachable' ? await readBegun(request, deps.api.label) : undefined
  if (begun === undefined || begun.remote === null) throw away
  let copy: RemoteCopy
  try {
    copy = await findRemoteCopy(begun, deps)
  } catch (why) {
    deps.output.note(`the pull of ${begun.name} cannot go on from its remote: ${asAgentError(why).message}`)
    throw away
  }
  deps.output.note(`${away.message}; going on from ${copy.place}`)
  return await pullResolved(begun, request, { ...deps, copy })
}

/** What was written to has to rest again before it counts as complete. */
const RESTS_WITHIN_MS = 60_000
const LOOK_AGAIN_MS = 2_000

/** @throws AgentError checkpoint_changed where it does not come back */
const resolveAgain = async (request: PullRequest, { api, signal }: PullDeps): Promise<Checkpoint> => {
  for (let waitedMs = 0; ; waitedMs += LOOK_AGAIN_MS) {
    try {
      return await resolveCheckpoint(request, api)
    } catch (error) {
      const known = asAgentError(error)
      if (known.code !== 'not_found') throw error
      if (waitedMs >= RESTS_WITHIN_MS)
        throw new AgentError(
          'checkpoint_changed',
          `${request.name} changed on the box, and is not complete there now`,
          {
            cause: error,
            hint: 'See what there is: agentctl checkpoints.',
          },
        )
    }
    await sleep(LOOK_AGAIN_MS, signal)
  }
}

const pullResolved = async (
  checkpoint: Checkpoint,
  { to, proven }: PullRequest,
  deps: PullDeps & { readonly copy?: RemoteCopy },
): Promise<Pulled> => {
  const { api, output, signal } = deps
  const target = joinInside(to, checkpoint.name)
  const { name, sync, digest, files, sizeBytes } = checkpoint
  const pulled = { name, sync, digest, files: files.length, sizeBytes, path: target }
  if (proven === digest && (await exists(target))) return { ...pulled, unchanged: true, previous: null }
  output.note(`${name} of ${sync}: ${formatCount(files.length, 'file')}, ${formatSize(sizeBytes)}, ${digest}`)
  await makeFolders(dirname(target))
  if (await isHere(checkpoint, target, signal)) return { ...pulled, unchanged: true, previous: null }

  const partial = `${target}.partial`
  const unlock = await takeLock(join(partial, 'lock'), 'another pull works on this checkpoint here')
  try {
    const staging = join(partial, 'files')
    await checkSpace(checkpoint, staging)
    await makeFolders(staging)
    await writeBegun(partial, { box: api.label, checkpoint })
    const journal = await openJournal(join(partial, 'journal.jsonl'))
    try {
      await transfer(checkpoint, { ...deps, journal, staging, earlier: target })
    } finally {
      journal.close()
    }
    await syncFolders(checkpoint, staging)
    const [only] = files
    const arrived = checkpoint.kind === 'file' && only ? joinInside(staging, only.path) : staging
    const previous = await place(arrived, target)
    await removeFolder(partial)
    return { ...pulled, unchanged: false, previous: previous ?? null }
  } finally {
    await unlock()
    // Of a pull that was refused nothing stays, of one that was broken off what has arrived.
    await rmdir(partial).catch(() => undefined)
  }
}

type TransferDeps = PullDeps & {
  readonly journal: Journal
  readonly staging: string
  readonly earlier: string
  readonly copy?: RemoteCopy
}

const transfer = async (checkpoint: Checkpoint, deps: TransferDeps): Promise<void> => {
  const { api, output, signal, journal, staging, earlier, copy } = deps
  const view = output.progress()
  const meter = createMeter(checkpoint.name, { files: checkpoint.files, view })
  const onWaiting = (error: AgentError): void => {
    if (meter.waits()) view.note(`${error.message}; trying again`)
  }
  const fallback = createFallback({
    copy,
    find: checkpoint.remote === null ? undefined : () => findRemoteCopy(checkpoint, deps),
    note: (text) => view.note(text),
  })
  try {
    await pullFiles(checkpoint, { api, signal, journal, meter, onWaiting, fallback, staging, earlier })
    await removeForeign(checkpoint, staging)
  } finally {
    view.close()
  }
}

/** True when every file lies under the final name with the right bytes; files of the user's own beside them stay. */
const isHere = async (checkpoint: Checkpoint, target: string, signal: AbortSignal): Promise<boolean> => {
  if (!(await exists(target))) return false
  for (const file of checkpoint.files) {
    const path = checkpoint.kind === 'file' ? target : joinInside(target, file.path)
    if (!(await isThatFile(path, file, signal))) return false
  }
  return true
}
