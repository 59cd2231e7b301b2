import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import { fileError } from '../platform/files.ts'
import type { SyncStore } from './sync-store.ts'
import { fingerprintOf } from './unit.ts'

export type HashAlgorithm = 'sha256' | 'sha1' | 'md5'

/**
 * Hash of the file at a path (hexadecimal), read at most once as long as its fingerprint stays.
 * @throws AgentError checkpoint_changed when the file changes while it is read
 */
export type HashFile = (
  path: string,
  options: { algorithm: HashAlgorithm; signal: AbortSignal },
) => Promise<string>

/** Large enough for the disk's speed, small enough that the agent answers in between (0.7 ms of hashing). */
const READ_BYTES = 2 ** 20

/** Reading a small file again is cheaper than remembering it, and at once cheaper than in turns with other work. */
const SMALL_BYTES = 64 * 2 ** 10

/** A HashFile that remembers in the agent's state, so that a restart reads nothing large again. */
export const createHashFile =
  (store: Pick<SyncStore, 'hash' | 'saveHash'>): HashFile =>
  async (path, options) => {
    try {
      options.signal.throwIfAborted()
      return hashSmall(path, options.algorithm) ?? (await hashLarge(path, { ...options, store }))
    } catch (error) {
      options.signal.throwIfAborted()
      throw fileError(error, `cannot read ${path}`)
    }
  }

/** undefined: the file is large. */
const hashSmall = (path: string, algorithm: HashAlgorithm): string | undefined => {
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
    return createHash(algorithm).update(bytes).digest('hex')
  } finally {
    closeSync(file)
  }
}

const hashLarge = async (
  path: string,
  context: {
    algorithm: HashAlgorithm
    signal: AbortSignal
    store: Pick<SyncStore, 'hash' | 'saveHash'>
  },
): Promise<string> => {
  const { algorithm, signal, store } = context
  const file = await open(path, 'r')
  try {
    const before = fingerprintOf(await file.stat({ bigint: true }))
    const known = store.hash(before, algorithm)
    if (known !== undefined) return known
    const hash = createHash(algorithm)
    const buffer = Buffer.allocUnsafe(READ_BYTES)
    for (let at = 0; ;) {
      signal.throwIfAborted()
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, at)
      if (bytesRead === 0) break
      hash.update(buffer.subarray(0, bytesRead))
      at += bytesRead
    }
    if (fingerprintOf(await file.stat({ bigint: true })) !== before) throw changed(path)
    const value = hash.digest('hex')
    store.saveHash(before, algorithm, value)
    return value
  } finally {
    await file.close()
  }
}

const changed = (path: string): AgentError =>
  new AgentError('checkpoint_changed', `${path} changed while it was read`)
