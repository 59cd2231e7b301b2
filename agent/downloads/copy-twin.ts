import { open } from 'node:fs/promises'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText } from '../platform/files.ts'
import type { PartFile } from './part-file.ts'

const COPIED_AT_ONCE = 2 ** 20

/**
 * Fills a partial file with the bytes of a verified file that has the same content: what lies on this box is not fetched
 * again. The copy is hashed like everything else.
 * @throws AgentError file_damaged when the twin cannot be read; from the disk; the signal's reason
 */
export const copyTwin = async (
  twin: string,
  context: {
    readonly part: PartFile
    readonly onBytes: (bytes: number) => void
    readonly signal: AbortSignal
  },
): Promise<void> => {
  const { part, signal } = context
  const buffer = Buffer.allocUnsafeSlow(COPIED_AT_ONCE)
  const refuse = (why: unknown): never => {
    throw new AgentError('file_damaged', `${twin} cannot be read: ${errorText(why)}`, { cause: why })
  }
  const handle = await open(twin, 'r').catch(refuse)
  try {
    for (let range = part.book.take(COPIED_AT_ONCE); range; range = part.book.take(COPIED_AT_ONCE)) {
      signal.throwIfAborted()
      const { start, end } = range
      const { bytesRead } = await handle.read(buffer, 0, end - start, start).catch(refuse)
      if (bytesRead === 0) return refuse(`it ends at byte ${start}`)
      await part.write(buffer.subarray(0, bytesRead), start)
      part.book.giveBack({ start: start + bytesRead, end })
      context.onBytes(bytesRead)
    }
  } finally {
    await handle.close()
  }
}
