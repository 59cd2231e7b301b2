import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { OpenFile, OpenUnit } from './open-unit.ts'
import { FILES_A_TURN } from './open-unit.ts'
import type { StoredFile } from './sync-store.ts'

export type SealedFile = OpenFile & StoredFile

/** An open unit with the hash of every file. */
export type SealedUnit = Omit<OpenUnit, 'files'> & {
  /** SHA-256 over paths, sizes and hashes: equal digests are equal units. */
  readonly digest: string
  readonly files: readonly SealedFile[]
}

/**
 * Hashes every file of a unit, once however often it is called.
 * @throws AgentError checkpoint_changed when a file changes while it is read
 */
export const sealUnit = async (unit: OpenUnit): Promise<SealedUnit> => {
  const files: SealedFile[] = []
  for (const file of unit.files) {
    const sha256 = await file.hash('sha256')
    if (files.push({ ...file, sha256 }) % FILES_A_TURN === 0) await nextTurn()
  }
  return { ...unit, digest: digestOf(files), files }
}

/** The digest of a unit: files by path, so the order they were found in does not matter. */
export const digestOf = (files: readonly StoredFile[]): string => {
  const lines = files
    .map((file) => JSON.stringify([file.path, file.sizeBytes, file.sha256]))
    .sort()
    .join('\n')
  return createHash('sha256').update(lines).digest('hex')
}
