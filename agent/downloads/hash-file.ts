import { stat } from 'node:fs/promises'
import { fileError } from '../platform/files.ts'
import type { FileHashes } from './hash-thread.ts'
import type { Hasher } from './hasher.ts'

/**
 * Reads every byte of a file once.
 * @throws AgentError io_error; the signal's reason after an abort
 */
export const hashFile = async (
  file: { readonly path: string; readonly withGitSha1: boolean },
  context: {
    readonly hasher: Hasher
    readonly onHashed?: (bytes: number) => void
    readonly signal: AbortSignal
  },
): Promise<FileHashes> => {
  const { size } = await stat(file.path).catch((error: unknown) => {
    throw fileError(error, `cannot read ${file.path}`)
  })
  const follower = context.hasher.follow({
    path: file.path,
    gitSizeBytes: file.withGitSha1 ? size : null,
    onHashed: context.onHashed,
  })
  return await follower.finish(size, context)
}
