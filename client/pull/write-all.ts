import type { FileHandle } from 'node:fs/promises'

/**
 * For one write of a whole chunk the kernel takes page cache in the largest pieces it has, which are never those that
 * the processor still holds: 2 GB cost 5.5 s of a core so, and 1.5 s in pieces of 256 KB.
 */
const WRITE_BYTES = 2 ** 18

/** A write may take less than it was given without an error; a nearly full disk does that. */
export const writeAll = async (handle: FileHandle, bytes: Uint8Array, start: number): Promise<void> => {
  let offset = 0
  while (offset < bytes.byteLength) {
    const length = Math.min(WRITE_BYTES, bytes.byteLength - offset)
    const { bytesWritten } = await handle.write(bytes, offset, length, start + offset)
    offset += bytesWritten
  }
}
