import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { CheckpointFiles, CheckpointRow } from '../../shared/contract/records.ts'
import { refuseSymlinks } from '../platform/files.ts'
import type { HashFile } from './file-hashes.ts'
import { isCheckpoint } from './is-checkpoint.ts'
import { stepOf } from './inspect-unit.ts'
import type { ObservedUnit } from './observe-units.ts'
import { destinationOf } from './planned-sync.ts'
import type { SyncRun } from './run-sync.ts'
import { openUnit } from './open-unit.ts'
import type { SealedUnit } from './seal-unit.ts'
import { sealUnit } from './seal-unit.ts'
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
type Known = Omit<CheckpointFiles, 'remote'> & {
  readonly run: SyncRun
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
    const completeAt =
      verdict.state === 'complete' ? verdict.completeAt : new Date(unit.modifiedMs).toISOString()
    const root = run.planned.spec.path
    const sealed = await seal(unit, { root, completeAt, hashFile: deps.hashFile, signal })
    if (!sealed) return undefined
    if (isResting && run.remoteState(unit.name, sealed.digest) !== 'stored') return undefined
    return {
      run,
      kind: unit.kind === 'file' ? 'file' : 'folder',
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

  const look = async (sync: string | null, signal: AbortSignal): Promise<readonly Looked[]> => {
    const runs = deps.runs().filter((run) => sync === null || run.planned.spec.name === sync)
    if (sync !== null && runs.length === 0) throw new AgentError('not_found', `there is no sync ${sync}`)
    const looked: Looked[] = []
    for (const run of runs)
      for (const unit of await run.lookNow(signal))
        if (!POINTER_FILES.includes(unit.name)) looked.push({ run, unit })
    return looked.sort(newestFirst)
  }

  const find = async ({ sync, name }: CheckpointName, signal: AbortSignal): Promise<Known> => {
    const looked = await look(sync, signal)
    // A log beside the checkpoints may be newer than they are; it is the latest only where there is nothing else.
    const isOne = ({ run, unit }: Looked): boolean => isCheckpoint(unit, run.planned.spec.complete_marker)
    const candidates =
      name === 'latest'
        ? [...looked.filter(isOne), ...looked.filter((one) => !isOne(one))]
        : looked.filter(({ unit }) => unit.name === name)
    let found: Known | undefined
    for (const { run, unit } of candidates) if ((found ??= await know(run, unit, signal))) break
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
    list: async (sync: string | null, signal: AbortSignal): Promise<readonly CheckpointRow[]> => {
      const rows: CheckpointRow[] = []
      for (const { run, unit } of await look(sync, signal)) {
        const known = await know(run, unit, signal)
        if (known) rows.push(rowOf(known))
      }
      return rows
    },

    /** @throws AgentError not_found */
    files: async (which: CheckpointName, signal: AbortSignal): Promise<CheckpointFiles> => {
      const { name, kind, sync, digest, completeAt, files, run } = await find(which, signal)
      const remote = run.planned.remote === null ? null : destinationOf(run.planned)
      return { name, kind, sync, digest, completeAt, files, remote }
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

/** undefined: the unit changes. */
const seal = async (
  unit: ObservedUnit,
  context: Parameters<typeof openUnit>[1],
): Promise<SealedUnit | undefined> => {
  try {
    const opened = await openUnit(unit, context)
    try {
      return await sealUnit(opened)
    } finally {
      opened.close()
    }
  } catch (error) {
    if (error instanceof AgentError && error.code === 'checkpoint_changed') return undefined
    throw error
  }
}

const rememberedId = (sync: string, name: string): string => JSON.stringify([sync, name])

/** undefined: the file changed since it was hashed. */
const openFile = async (known: Known, path: string): Promise<OpenCheckpointFile | undefined> => {
  const file = known.files.find((one) => one.path === path)
  if (!file) throw new AgentError('not_found', `${known.name} has no file ${JSON.stringify(path)}`)
  const root = known.run.planned.spec.path
  const target = known.kind === 'file' ? join(root, known.name) : join(root, known.name, file.path)
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

const rowOf = ({ run, name, sync, files, completeAt, digest }: Known): CheckpointRow => ({
  name,
  sync,
  files: files.length,
  sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
  completeAt,
  digest,
  remoteState: run.remoteState(name, digest),
})

type Looked = { readonly run: SyncRun; readonly unit: ObservedUnit }

/** By time, then by step: a new run that begins again at step 100 is newer than the old one's 1000. */
const newestFirst = (a: Looked, b: Looked): number =>
  b.unit.modifiedMs - a.unit.modifiedMs || (stepOf(b.unit.name) ?? 0) - (stepOf(a.unit.name) ?? 0)
