import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { errnoOf, fileError } from '../platform/files.ts'
import type { HashAlgorithm, HashFile } from './file-hashes.ts'
import type { StoredFile } from './sync-store.ts'
import type { Unit, UnitFile } from './unit.ts'
import { fingerprintOf } from './unit.ts'

/** A file that is held open: its bytes stay readable at `from` even when it is replaced or removed meanwhile. */
export type SealedFile = StoredFile & {
  readonly from: string
  readonly hash: (algorithm: HashAlgorithm) => Promise<string>
}

/** A complete unit with the hash of every file; close it after use. */
export type SealedUnit = {
  readonly name: string
  readonly kind: Unit['kind']
  /** SHA-256 over paths, sizes and hashes: equal digests are equal units. */
  readonly digest: string
  readonly completeAt: string
  readonly files: readonly SealedFile[]
  /** False when a file was written to since the seal (S1, S2); a removed or replaced one does not count (S3, S4). */
  unchanged(): Promise<boolean>
  close(): void
}

/** More files than this are not held open: their names are used, and a removal in between is found as a failure. */
const MAX_HELD = 512

/**
 * Opens every file of a unit and hashes it.
 * @throws AgentError checkpoint_changed when a file is not what the last look saw
 */
export const sealUnit = async (
  unit: Unit,
  context: { root: string; completeAt: string; hashFile: HashFile; signal: AbortSignal },
): Promise<SealedUnit> => {
  const { root, hashFile, signal } = context
  const held: Held[] = []
  const close = (): void => {
    for (const { descriptor } of held.splice(0)) closeSync(descriptor)
  }
  const isHeld = unit.files.length <= MAX_HELD
  try {
    const files: SealedFile[] = []
    for (const file of unit.files) {
      const path = join(root, file.path)
      const descriptor = openUnchanged(path, file.fingerprint)
      const from = isHeld ? `/proc/${process.pid}/fd/${descriptor}` : path
      if (!isHeld) closeSync(descriptor)
      const one: Held = { descriptor, file, sha256: '' }
      if (isHeld) held.push(one)
      const sha256 = (one.sha256 = await hashFile(from, { algorithm: 'sha256', signal }))
      const hashes = new Map<HashAlgorithm, Promise<string>>([['sha256', Promise.resolve(sha256)]])
      files.push({
        path: file.path,
        sizeBytes: file.sizeBytes,
        sha256,
        from,
        hash: (algorithm) => {
          const hash = hashes.get(algorithm) ?? hashFile(from, { algorithm, signal })
          hashes.set(algorithm, hash)
          return hash
        },
      })
    }
    return {
      name: unit.name,
      kind: unit.kind,
      digest: digestOf(files),
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
  } catch (error) {
    close()
    throw error
  }
}

type Held = { readonly descriptor: number; readonly file: UnitFile; sha256: string }

/** The digest of a unit: files by path, so the order they were found in does not matter. */
export const digestOf = (files: readonly StoredFile[]): string => {
  const lines = files
    .map((file) => JSON.stringify([file.path, file.sizeBytes, file.sha256]))
    .sort()
    .join('\n')
  return createHash('sha256').update(lines).digest('hex')
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
  { descriptor, file, sha256 }: Held,
  context: { hashFile: HashFile; signal: AbortSignal },
): Promise<boolean> => {
  const now = fingerprintOf(fstatSync(descriptor, { bigint: true }))
  if (now === file.fingerprint) return true
  if (withoutChangeTime(now) !== withoutChangeTime(file.fingerprint)) return false
  const again = await context.hashFile(`/proc/${process.pid}/fd/${descriptor}`, {
    algorithm: 'sha256',
    signal: context.signal,
  })
  return again === sha256
}

const withoutChangeTime = (fingerprint: string): string => fingerprint.slice(0, fingerprint.lastIndexOf(':'))
