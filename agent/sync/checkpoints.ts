import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { CheckpointFiles, CheckpointRow } from '../../shared/contract/records.ts'
import { refuseSymlinks } from '../platform/files.ts'
import type { HashFile } from './file-hashes.ts'
import { stepOf } from './inspect-unit.ts'
import type { ObservedUnit } from './observe-units.ts'
import { isCheckpoint } from './prune-units.ts'
import type { SyncRun } from './run-sync.ts'
import { sealUnit } from './seal-unit.ts'
import type { Unit } from './unit.ts'
import { fingerprintOf, pathInUnit, POINTER_FILES } from './unit.ts'

/** Which checkpoint: of one sync, or of any. */
export type CheckpointName = { readonly sync: string | null; readonly name: string }

/** A file of a checkpoint, open for reading; whoever gets it closes the handle. */
export type OpenCheckpointFile = {
  readonly handle: FileHandle
  readonly sizeBytes: number
  /** Strong: `"sha256-<hex>"`, the same after a restart of the agent. */
  readonly etag: string
  readonly path: string
}

/** A laptop that pulls asks again within this time; until then the checkpoint is not pruned. */
const LEASE_MS = 600_000
const MAX_REMEMBERED = 64

/** A complete unit with its files' hashes, kept so that a pull in many ranges does not look at everything each time. */
type Known = CheckpointFiles & {
  readonly run: SyncRun
  readonly kind: Unit['kind']
  readonly fingerprints: ReadonlyMap<string, string>
}

/** What could be pulled from the box: complete units, newest first, each file with its hash. */
export const createCheckpoints = (deps: { runs: () => readonly SyncRun[]; hashFile: HashFile }) => {
  const remembered = new Map<string, Known>()

  const know = async (run: SyncRun, unit: ObservedUnit, signal: AbortSignal): Promise<Known | undefined> => {
    const { verdict } = unit
    // After a restart of the agent nothing has been quiet for long; what was stored before is known to be complete.
    const isResting = verdict.state === 'settling' && verdict.waitMs !== undefined
    if (verdict.state !== 'complete' && !isResting) return undefined
    const newestMs = Math.max(0, ...unit.files.map((file) => file.modifiedMs))
    const completeAt = verdict.state === 'complete' ? verdict.completeAt : new Date(newestMs).toISOString()
    const root = run.planned.spec.path
    const sealed = await sealUnit(unit, { root, completeAt, hashFile: deps.hashFile, signal }).catch(
      (error: unknown) => {
        if (error instanceof AgentError && error.code === 'checkpoint_changed') return undefined
        throw error
      },
    )
    if (!sealed) return undefined
    await sealed.close()
    if (isResting && run.remoteState(unit.name, sealed.digest) !== 'stored') return undefined
    return {
      run,
      kind: unit.kind,
      name: unit.name,
      sync: run.planned.spec.name,
      digest: sealed.digest,
      completeAt,
      files: sealed.files.map(({ path, sizeBytes, sha256 }) => ({
        path: pathInUnit(unit, path),
        sizeBytes,
        sha256,
      })),
      fingerprints: new Map(unit.files.map((file) => [pathInUnit(unit, file.path), file.fingerprint])),
    }
  }

  const all = async (
    sync: string | null,
    context: { name?: string; signal: AbortSignal },
  ): Promise<Known[]> => {
    const runs = deps.runs().filter((run) => sync === null || run.planned.spec.name === sync)
    if (sync !== null && runs.length === 0) throw new AgentError('not_found', `there is no sync ${sync}`)
    const known: Known[] = []
    for (const run of runs)
      for (const unit of await run.lookNow(context.signal)) {
        if (POINTER_FILES.includes(unit.name)) continue
        if (context.name !== undefined && unit.name !== context.name) continue
        const one = await know(run, unit, context.signal)
        if (one) known.push(one)
      }
    return known.sort(newestFirst)
  }

  const find = async ({ sync, name }: CheckpointName, signal: AbortSignal): Promise<Known> => {
    const known = await all(sync, name === 'latest' ? { signal } : { name, signal })
    const found = known.find(isCheckpoint) ?? known[0]
    if (!found)
      throw new AgentError(
        'not_found',
        name === 'latest' ? 'there is no complete checkpoint yet' : `there is no complete checkpoint ${name}`,
        { hint: 'See what there is: agentctl checkpoints.' },
      )
    const id = rememberedId(found.sync, found.name)
    remembered.delete(id)
    remembered.set(id, found)
    const oldest = remembered.keys().next().value
    if (remembered.size > MAX_REMEMBERED && oldest !== undefined) remembered.delete(oldest)
    found.run.lease(found.name, LEASE_MS)
    return found
  }

  return {
    list: async (sync: string | null, signal: AbortSignal): Promise<readonly CheckpointRow[]> =>
      (await all(sync, { signal })).map((known) => ({
        name: known.name,
        sync: known.sync,
        files: known.files.length,
        sizeBytes: known.files.reduce((sum, file) => sum + file.sizeBytes, 0),
        completeAt: known.completeAt,
        digest: known.digest,
        remoteState: known.run.remoteState(known.name, known.digest),
      })),

    /** @throws AgentError not_found */
    files: async (which: CheckpointName, signal: AbortSignal): Promise<CheckpointFiles> => {
      const { name, sync, digest, completeAt, files } = await find(which, signal)
      return { name, sync, digest, completeAt, files }
    },

    /** @throws AgentError not_found, checkpoint_changed, unsafe_path */
    open: async (
      which: CheckpointName & { path: string; digest: string },
      signal: AbortSignal,
    ): Promise<OpenCheckpointFile> => {
      const remembers = [...remembered.values()].find(
        (one) =>
          one.name === which.name &&
          one.digest === which.digest &&
          (which.sync === null || one.sync === which.sync) &&
          deps.runs().includes(one.run),
      )
      return (remembers && (await openFile(remembers, which.path))) ?? openAnew(which, signal)
    },
  }

  async function openAnew(
    which: CheckpointName & { path: string; digest: string },
    signal: AbortSignal,
  ): Promise<OpenCheckpointFile> {
    const known = await find(which, signal)
    const opened = known.digest === which.digest ? await openFile(known, which.path) : undefined
    if (!opened)
      throw new AgentError('checkpoint_changed', `${which.name} is not what it was when the pull began`)
    return opened
  }
}

const rememberedId = (sync: string, name: string): string => JSON.stringify([sync, name])

/** undefined: the file changed since it was hashed. */
const openFile = async (known: Known, path: string): Promise<OpenCheckpointFile | undefined> => {
  const file = known.files.find((one) => one.path === path)
  if (!file) throw new AgentError('not_found', `${known.name} has no file ${JSON.stringify(path)}`)
  const root = known.run.planned.spec.path
  const target = known.kind === 'folder' ? join(root, known.name, file.path) : join(root, file.path)
  await refuseSymlinks(root, target)
  const handle = await open(target, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined)
  if (!handle) return undefined
  if (fingerprintOf(await handle.stat({ bigint: true })) !== known.fingerprints.get(path)) {
    await handle.close()
    return undefined
  }
  known.run.lease(known.name, LEASE_MS)
  return { handle, sizeBytes: file.sizeBytes, etag: `"sha256-${file.sha256}"`, path }
}

/** By time, then by step: a new run that begins again at step 100 is newer than the old one's 1000. */
const newestFirst = (a: Known, b: Known): number =>
  b.completeAt.localeCompare(a.completeAt) || (stepOf(b.name) ?? 0) - (stepOf(a.name) ?? 0)
