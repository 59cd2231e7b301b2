import { rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { fileError, syncFolder } from '../platform/files.ts'
import type { FileHashes } from './hash-thread.ts'
import type { Expected } from '../../shared/sources/judge-source.ts'
import { discardPart, discardRecord, partPath } from './part-file.ts'
import type { PlannedFile } from './planned-file.ts'
import type { VerifiedFile, VerifiedFiles } from './verified-files.ts'

/**
 * Gives the complete partial file its name when its bytes are the right ones, and only then. A file that
 * is there already survives until that moment. Wrong bytes are put aside as `<name>.bad-<8 hex>`.
 * @throws AgentError hash_mismatch, size_mismatch, io_error, disk_full, read_only
 */
export const installPart = async (
  file: PlannedFile,
  context: {
    readonly expected: Expected
    readonly reference: string
    /** Of every byte of the partial file. */
    readonly hashes: FileHashes
    readonly verified: VerifiedFiles
  },
): Promise<VerifiedFile> => {
  const { expected, hashes } = context
  const mismatch = findMismatch(hashes, { expected, subject: `${file.to} from ${context.reference}` })
  if (mismatch !== undefined) {
    await rename(partPath(file.path), quarantinePath(file.path, hashes.sha256))
    await discardPart(file.path)
    throw mismatch
  }
  try {
    await rename(partPath(file.path), file.path)
    syncFolder(dirname(file.path))
    await discardRecord(file.path)
  } catch (error) {
    throw fileError(error, `cannot put ${file.path} in place`)
  }
  return await context.verified.add({
    path: file.path,
    source: context.reference,
    sizeBytes: hashes.sizeBytes,
    sha256: hashes.sha256,
  })
}

/** What is wrong with these bytes, or undefined. Without any published hash the size alone can be compared. */
export const findMismatch = (
  hashes: FileHashes,
  context: { readonly expected: Expected; readonly subject: string },
): AgentError | undefined => {
  const { expected, subject } = context
  if (expected.sizeBytes !== null && hashes.sizeBytes !== expected.sizeBytes)
    return new AgentError(
      'size_mismatch',
      `${subject} has ${hashes.sizeBytes} bytes, expected are ${expected.sizeBytes}`,
    )
  if (expected.sha256 !== null && hashes.sha256 !== expected.sha256)
    return new AgentError(
      'hash_mismatch',
      `${subject} has the sha256 ${hashes.sha256}, expected is ${expected.sha256}`,
    )
  if (expected.sha256 === null && expected.gitSha1 !== null && hashes.gitSha1 !== expected.gitSha1)
    return new AgentError('hash_mismatch', `${subject} is not the git blob ${expected.gitSha1}`)
  return undefined
}

const quarantinePath = (path: string, sha256: string): string => `${path}.bad-${sha256.slice(0, 8)}`
