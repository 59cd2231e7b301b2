import { open } from 'node:fs/promises'
import { inflateRawSync } from 'node:zlib'
import { AgentError } from '../../shared/contract/errors.ts'
import type { RecordEntry } from './dist-record.ts'
import { parseRecord } from './dist-record.ts'

/** The end record of a zip and the longest comment after it. */
const TAIL_BYTES = 22 + 0xffff

/**
 * The RECORD of a wheel: every file it would write, without unpacking it.
 * @throws AgentError install_failed when it is no wheel
 */
export const readWheelRecord = async (path: string): Promise<readonly RecordEntry[]> => {
  const file = await open(path)
  try {
    const read = async (position: number, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
      return buffer.subarray(0, bytesRead)
    }
    const { size } = await file.stat()
    const tail = await read(Math.max(0, size - TAIL_BYTES), Math.min(size, TAIL_BYTES))
    const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
    if (end < 0) throw damaged(path)
    const directory = await read(tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12))
    for (let at = 0; at + 46 <= directory.length;) {
      if (directory.readUInt32LE(at) !== 0x0201_4b50) throw damaged(path)
      const nameLength = directory.readUInt16LE(at + 28)
      const name = directory.toString('utf8', at + 46, at + 46 + nameLength)
      if (/^[^/]+\.dist-info\/RECORD$/.test(name)) {
        const offset = directory.readUInt32LE(at + 42)
        const header = await read(offset, 30)
        const start = offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
        const packed = await read(start, directory.readUInt32LE(at + 20))
        const stored = directory.readUInt16LE(at + 10) === 0
        return parseRecord((stored ? packed : inflateRawSync(packed)).toString('utf8'))
      }
      at += 46 + nameLength + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32)
    }
    throw damaged(path)
  } catch (error) {
    if (error instanceof RangeError) throw damaged(path)
    throw error
  } finally {
    await file.close()
  }
}

const damaged = (path: string): AgentError =>
  new AgentError('install_failed', `${path} is not a wheel: it has no readable RECORD`)
