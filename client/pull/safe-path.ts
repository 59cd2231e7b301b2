import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

/**
 * Joins a name from the box under a folder of this machine. A box may be hostile or broken: absolute paths, `..`,
 * empty parts, backslashes, drive letters and control characters are refused, so nothing is written elsewhere.
 * @throws AgentError unsafe_path
 */
export const joinInside = (folder: string, relative: string): string => {
  const parts = relative.split('/')
  if (parts.some(isUnsafePart))
    throw new AgentError(
      'unsafe_path',
      `the box names ${JSON.stringify(relative)}, which does not stay in ${folder}`,
      {
        hint: 'Nothing was written. Do not trust this box: its agent never names such a file.',
      },
    )
  return join(folder, ...parts)
}

const isUnsafePart = (part: string): boolean =>
  part === '' ||
  part === '.' ||
  part === '..' ||
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
  /[\u0000-\u001f\u007f\\]/.test(part) ||
  /^[a-z]:/i.test(part) ||
  Buffer.byteLength(part) > 255
