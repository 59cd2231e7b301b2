import { lstat } from 'node:fs/promises'
import { basename } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { isPickleName } from '../../shared/sources/model-names.ts'
import { refuseSymlinks } from '../platform/files.ts'
import type { PlannedFile } from './planned-file.ts'

/** What is added to the name while the file is on its way: `.part.claim.` and eight digits. */
const LONGEST_SUFFIX = 20

/**
 * Refuses a destination before a byte is fetched for it.
 * @throws AgentError destination_invalid, unsafe_path, pickle_refused
 */
export const checkDestination = async (file: PlannedFile): Promise<void> => {
  if (isPickleName(file.path) && !file.allowPickle)
    throw new AgentError('pickle_refused', `${file.to} is a pickle: it can run code when it is loaded`)
  if (Buffer.byteLength(basename(file.path)) + LONGEST_SUFFIX > 255)
    throw new AgentError('destination_invalid', `the name of ${file.to} is too long`)
  if (file.root !== null) await refuseSymlinks(file.root, file.path)
  const stats = await lstat(file.path).catch(() => undefined)
  if (stats?.isSymbolicLink())
    throw new AgentError('unsafe_path', `${file.path} is a symbolic link`, {
      hint: 'Remove the link, or name the file it leads to.',
    })
  if (stats && !stats.isFile())
    throw new AgentError('destination_invalid', `${file.path} is there and is not a file`)
}
