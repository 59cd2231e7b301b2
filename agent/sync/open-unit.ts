import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import { errnoOf, fileError } from '../platform/files.ts'
import type { HashAlgorithm, HashFile } from './file-hashes.ts'
import type { Unit, UnitFile } from './unit.ts'
import { fingerprintOf, withoutChangeTime } from './unit.ts'

/** A file that is held open: its bytes stay readable at `from` even when it is replaced or removed meanwhile. */
export type OpenFile = {
  /** Relative to the sync's path: where it lies on the remote too. */
  readonly path: string
  readonly sizeBytes: number
  readonly from: string
  /** One of its hashes; `also` is worked out in the same reading, for later. */
  readonly hash: (algorithm: HashAlgorithm, also?: HashAlgorithm) => Promise<string>
}

/** A complete unit whose files are held as the last look saw them; close it after use, which ends its hashing too. */
export type OpenUnit = {
  readonly name: string
  readonly kind: Unit['kind']
  readonly completeAt: string
  readonly files: readonly OpenFile[]
  /** False when a file was written to since (S1, S2); a removed or replaced one does not count (S3, S4). */
  unchanged(): Promise<boolean>
  close(): void
}

/** More files than this are not held open: their names are used, and a removal in between is found as a failure. */
const MAX_HELD = 512

/** Small files opened or hashed in a row before the agent may answer somebody. */
export const FILES_A_TURN = 64

/**
 * Opens every file of a unit.
 * @throws AgentError checkpoint_changed when a file is not what the last look saw
 */
export const openUnit = async (
  unit: Unit,
  context: { root: string; completeAt: string; hashFile: HashFile; signal: AbortSignal },
): Promise<OpenUnit> => {
  const { root, hashFile } = context
  const closed = new AbortController()
  const signal = AbortSignal.any([context.signal, closed.signal])
  const held: Held[] = []
  const close = (): void => {
    closed.abort(new AgentError('cancelled', `${unit.name} is not needed any more`))
    for (const { descriptor } of held.splice(0)) closeSync(descriptor)
  }
  const isHeld = unit.files.length <= MAX_HELD
  const files: OpenFile[] = []
  try {
    for (const file of unit.files) {
      const path = join(root, file.path)
      const descriptor = openUnchanged(path, file.fingerprint)
      const from = isHeld ? `/proc/${process.pid}/fd/${descriptor}` : path
      const { sizeBytes } = file
      const one = { path: file.path, sizeBytes, from, hash: rememberHashes(from, { hashFile, signal }) }
      if (isHeld) held.push({ descriptor, file, hash: one.hash })
      else closeSync(descriptor)
      if (files.push(one) % FILES_A_TURN === 0) await nextTurn()
    }
  } catch (error) {
    close()
    throw error
  }
  return {
    name: unit.name,
    kind: unit.kind,
    completeAt: context.completeAt,
    files,
    close,
    unchanged: async () => {
      if (isHeld)
        return (await Promise.all(held.map((one) => isUnchanged(one, { hashFile, signal })))).every(Boolean)
      for (const file of unit.files) closeSync(openUnchanged(join(root, file.path), file.fingerprint))
      return true
    },
  }
}

type Held = { readonly descriptor: number; readonly file: UnitFile; readonly hash: OpenFile['hash'] }

const rememberHashes = (
  from: string,
  { hashFile, signal }: { hashFile: HashFile; signal: AbortSignal },
): OpenFile['hash'] => {
  const hashes = new Map<HashAlgorithm, Promise<string>>()
  return (algorithm, also) => {
    const known = hashes.get(algorithm)
    if (known) return known
    const wanted = also === undefined || also === algorithm ? [algorithm] : [algorithm, also]
    const all = hashFile(from, { algorithms: wanted, signal })
    for (const one of wanted) {
      const hash = all.then((found) => found[one])
      // Who asks for it later is told of a failure then.
      hash.catch(() => undefined)
      hashes.set(one, hash)
    }
    return hashes.get(algorithm) as Promise<string>
  }
}

const openUnchanged = (path: string, fingerprint: string): number => {
  const descriptor = openPlain(path)
  if (fingerprintOf(fstatSync(descriptor, { bigint: true })) === fingerprint) return descriptor
  closeSync(descriptor)
  throw new AgentError('checkpoint_changed', `${path} changed since it was looked at`)
}

const openPlain = (path: string): number => {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    // ELOOP: a symbolic link took the file's place.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ELOOP')
      throw new AgentError('checkpoint_changed', `${path} was removed or replaced`, { cause: error })
    throw fileError(error, `cannot open ${path}`)
  }
}

/**
 * Size and modification time say most. The change time also moves when a file is unlinked, renamed or linked, which
 * leaves its bytes alone, and when a write was hidden by setting the time back: then the bytes are read again.
 */
const isUnchanged = async (
  { descriptor, file, hash }: Held,
  { hashFile, signal }: { hashFile: HashFile; signal: AbortSignal },
): Promise<boolean> => {
  const now = fingerprintOf(fstatSync(descriptor, { bigint: true }))
  if (now === file.fingerprint) return true
  if (withoutChangeTime(now) !== withoutChangeTime(file.fingerprint)) return false
  const again = await hashFile(`/proc/${process.pid}/fd/${descriptor}`, { algorithms: ['sha256'], signal })
  return again.sha256 === (await hash('sha256'))
}
