import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import { fileError } from '../platform/files.ts'
import type { SyncStore } from './sync-store.ts'
import { fingerprintOf, withoutChangeTime } from './unit.ts'

export type HashAlgorithm = 'sha256' | 'sha1' | 'md5'

/**
 * Hashes of the file at a path (hexadecimal), read at most once as long as its fingerprint stays.
 * @throws AgentError checkpoint_changed when the file changes while it is read
 */
export type HashFile = <Algorithm extends HashAlgorithm>(
  path: string,
  options: { algorithms: readonly Algorithm[]; signal: AbortSignal },
) => Promise<Readonly<Record<Algorithm, string>>>

/** Large enough for the disk's speed, small enough that the agent answers in between (0.7 ms of hashing). */
const READ_BYTES = 2 ** 20

/** Reading a small file again is cheaper than remembering it, and at once cheaper than in turns with other work. */
const SMALL_BYTES = 64 * 2 ** 10

/** A HashFile that remembers in the agent's state, so that a restart reads nothing large again. */
export const createHashFile =
  (store: HashStore): HashFile =>
  async (path, { algorithms, signal }) => {
    try {
      signal.throwIfAborted()
      return hashSmall(path, algorithms) ?? (await hashLarge(path, { algorithms, signal, store }))
    } catch (error) {
      signal.throwIfAborted()
      throw fileError(error, `cannot read ${path}`)
    }
  }

type HashStore = Pick<SyncStore, 'hash' | 'saveHash'>
type Hashes<Algorithm extends HashAlgorithm> = Record<Algorithm, string>

/** undefined: the file is large. */
const hashSmall = <Algorithm extends HashAlgorithm>(
  path: string,
  algorithms: readonly Algorithm[],
): Hashes<Algorithm> | undefined => {
  const file = openSync(path, 'r')
  try {
    const before = fstatSync(file, { bigint: true })
    if (before.size > SMALL_BYTES) return undefined
    const bytes = Buffer.allocUnsafe(Number(before.size))
    const bytesRead = readSync(file, bytes, 0, bytes.length, 0)
    if (
      bytesRead < bytes.length ||
      fingerprintOf(fstatSync(file, { bigint: true })) !== fingerprintOf(before)
    )
      throw changed(path)
    return forEach(algorithms, (algorithm) => createHash(algorithm).update(bytes).digest('hex'))
  } finally {
    closeSync(file)
  }
}

/** Another reading for each name that a file lost or got meanwhile. */
const MOST_READINGS = 3

const hashLarge = async <Algorithm extends HashAlgorithm>(
  path: string,
  context: { algorithms: readonly Algorithm[]; signal: AbortSignal; store: HashStore },
): Promise<Hashes<Algorithm>> => {
  const file = await open(path, 'r')
  try {
    return await hashOpen(file, path, context)
  } finally {
    await file.close()
  }
}

const hashOpen = async <Algorithm extends HashAlgorithm>(
  file: FileHandle,
  path: string,
  context: { algorithms: readonly Algorithm[]; signal: AbortSignal; store: HashStore },
): Promise<Hashes<Algorithm>> => {
  const { algorithms, signal, store } = context
  for (let readings = 1; ; readings += 1) {
    const before = fingerprintOf(await file.stat({ bigint: true }))
    const known = new Map(algorithms.map((algorithm) => [algorithm, store.hash(before, algorithm)]))
    const missing = algorithms.filter((algorithm) => known.get(algorithm) === undefined)
    if (missing.length > 0) {
      const hashes = forEach(missing, (algorithm) => createHash(algorithm))
      await readPieces(file, (bytes) => missing.forEach((one) => hashes[one].update(bytes)), signal)
      const after = fingerprintOf(await file.stat({ bigint: true }))
      // A checkpoint that is rotated away moves the change time alone; a write that hides itself does that too.
      const mayBeSame = withoutChangeTime(after) === withoutChangeTime(before) && readings < MOST_READINGS
      if (after !== before && mayBeSame) continue
      if (after !== before) throw changed(path)
      for (const algorithm of missing) {
        const value = hashes[algorithm].digest('hex')
        store.saveHash(before, algorithm, value)
        known.set(algorithm, value)
      }
    }
    return forEach(algorithms, (algorithm) => known.get(algorithm) ?? '')
  }
}

const readPieces = async (
  file: FileHandle,
  take: (bytes: Buffer) => void,
  signal: AbortSignal,
): Promise<void> => {
  const buffer = Buffer.allocUnsafe(READ_BYTES)
  for (let at = 0; ;) {
    signal.throwIfAborted()
    const { bytesRead } = await file.read(buffer, 0, READ_BYTES, at)
    if (bytesRead === 0) return
    take(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
}

const forEach = <Algorithm extends HashAlgorithm, T>(
  algorithms: readonly Algorithm[],
  make: (algorithm: Algorithm) => T,
): Record<Algorithm, T> =>
  Object.fromEntries(algorithms.map((algorithm) => [algorithm, make(algorithm)])) as Record<Algorithm, T>

const changed = (path: string): AgentError =>
  new AgentError('checkpoint_changed', `${path} changed while it was read`)
