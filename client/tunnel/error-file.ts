import { randomBytes } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Where one ssh writes its errors; it has no name any more. */
export type ErrorFile = {
  readonly fd: number
  /** What was written so far, at most 64 KB. */
  text(): Promise<string>
  close(): Promise<void>
}

const MAX_BYTES = 64 * 1024

/** An ssh in the background keeps what it inherited open for as long as it lives, so its errors go to a file, not a pipe. */
export const openErrorFile = async (folder: string): Promise<ErrorFile> => {
  const path = join(folder, `${randomBytes(6).toString('hex')}.err`)
  const file = await open(path, 'wx+', 0o600)
  try {
    await rm(path)
  } catch (error) {
    await file.close()
    throw error
  }
  return {
    fd: file.fd,
    text: async () => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_BYTES), 0, MAX_BYTES, 0)
      return buffer.toString('utf8', 0, bytesRead)
    },
    close: () => file.close(),
  }
}
