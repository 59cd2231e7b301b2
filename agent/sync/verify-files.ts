import { AgentError } from '../../shared/contract/errors.ts'
import type { RemoteFile } from './carrier.ts'
import type { HashAlgorithm } from './file-hashes.ts'
import type { OpenFile } from './open-unit.ts'
import type { UnitRecord } from './unit-record.ts'

const STRONGEST_FIRST: readonly HashAlgorithm[] = ['sha256', 'sha1', 'md5']

/** The hash that both sides can name; undefined where the remote keeps none. */
const sharedAlgorithm = (there: RemoteFile): HashAlgorithm | undefined =>
  STRONGEST_FIRST.find((algorithm) => there.hashes[algorithm])

/** True when the remote holds a file as it is here, by hash, or by our own record where it keeps none. */
export const isThere = async (
  file: OpenFile,
  { there, record }: { there: RemoteFile | undefined; record: UnitRecord | undefined },
): Promise<boolean> => {
  if (there?.sizeBytes !== file.sizeBytes) return false
  const algorithm = sharedAlgorithm(there)
  if (algorithm) return there.hashes[algorithm] === (await file.hash(algorithm))
  // Without hashes equal sizes say nothing (S33): only our own record does, which was written after a proof.
  const sha256 = record && (await file.hash('sha256'))
  return record?.files.some((one) => one.path === file.path && one.sha256 === sha256) ?? false
}

/**
 * Compares what a listing shows with what is here.
 * @returns how far the proof goes: `size` where the remote keeps no hashes
 * @throws AgentError sync_failed
 */
export const verifyFiles = async (
  files: readonly OpenFile[],
  there: ReadonlyMap<string, RemoteFile>,
): Promise<'hash' | 'size'> => {
  let verifiedBy: 'hash' | 'size' = 'hash'
  for (const file of files) {
    const found = there.get(file.path)
    if (!found) throw new AgentError('sync_failed', `${file.path} is not on the remote after it was copied`)
    if (found.sizeBytes !== file.sizeBytes)
      throw new AgentError(
        'sync_failed',
        `${file.path} has ${found.sizeBytes} bytes on the remote, ${file.sizeBytes} here`,
      )
    const algorithm = sharedAlgorithm(found)
    if (!algorithm) verifiedBy = 'size'
    else if (found.hashes[algorithm] !== (await file.hash(algorithm)))
      throw new AgentError('sync_failed', `${file.path} has another ${algorithm} on the remote than here`)
  }
  return verifiedBy
}
