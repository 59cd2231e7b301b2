import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { extname } from 'node:path'

/**
 * Why a file cannot be whole by the rules of its own format, or undefined. A pass proves little (a preallocated
 * safetensors file passes), a failure proves that it is still being written or was cut off.
 */
export const findFormatFault = async (path: string): Promise<string | undefined> => {
  const check = CHECKS[extname(path).toLowerCase()]
  if (!check) return undefined
  const file = await open(path, 'r')
  try {
    return await check({ file, sizeBytes: (await file.stat()).size })
  } finally {
    await file.close()
  }
}

type Opened = { readonly file: FileHandle; readonly sizeBytes: number }
type Check = (opened: Opened) => Promise<string | undefined>

const MAX_HEADER_BYTES = 100_000_000

const checkSafetensors: Check = async (opened) => {
  const length = await read(opened, 0, 8)
  if (!length) return 'is shorter than a safetensors header'
  const headerBytes = Number(length.readBigUInt64LE())
  if (headerBytes > MAX_HEADER_BYTES) return 'has no safetensors header'
  const header = await read(opened, 8, headerBytes)
  if (!header) return 'ends inside its safetensors header'
  const dataBytes = lastOffset(header.toString('utf8'))
  if (dataBytes === undefined) return 'has a safetensors header that cannot be read'
  const expected = 8 + headerBytes + dataBytes
  return opened.sizeBytes === expected
    ? undefined
    : `has ${opened.sizeBytes} bytes, its header says ${expected}`
}

const lastOffset = (header: string): number | undefined => {
  try {
    const tensors = JSON.parse(header) as Record<string, { data_offsets?: readonly number[] } | null>
    return Object.values(tensors).reduce((last, tensor) => Math.max(last, tensor?.data_offsets?.[1] ?? 0), 0)
  } catch {
    return undefined
  }
}

const END_OF_DIRECTORY = 0x06054b50
const ZIP64_LOCATOR = 0x07064b50

/** torch.save writes a zip, whose directory is its end; the older pickle format has no end mark and passes. */
const checkZip: Check = async (opened) => {
  const start = await read(opened, 0, 4)
  if (!start) return opened.sizeBytes === 0 ? 'is empty' : `has ${opened.sizeBytes} bytes, too few`
  if (start.readUInt32BE() !== 0x504b0304) return undefined
  const tailBytes = Math.min(opened.sizeBytes, 65_557)
  const tail = await read(opened, opened.sizeBytes - tailBytes, tailBytes)
  for (let at = tailBytes - 22; tail && at >= 0; at -= 1) {
    if (tail.readUInt32LE(at) !== END_OF_DIRECTORY) continue
    const directoryBytes = tail.readUInt32LE(at + 12)
    const directoryStart = tail.readUInt32LE(at + 16)
    const isZip64 = at >= 20 && tail.readUInt32LE(at - 20) === ZIP64_LOCATOR
    const end = opened.sizeBytes - tailBytes + at
    if (isZip64 || directoryStart + directoryBytes <= end) return undefined
  }
  return 'has no zip directory at its end'
}

const checkGguf: Check = async (opened) => {
  const start = await read(opened, 0, 24)
  if (!start) return 'is shorter than a gguf header'
  return start.toString('latin1', 0, 4) === 'GGUF' ? undefined : 'does not start with GGUF'
}

/** The boxes of the top level must reach the end of the file, with the index among them. */
const checkMp4: Check = async (opened) => {
  let at = 0
  let hasIndex = false
  while (at < opened.sizeBytes) {
    const head = await read(opened, at, 8)
    if (!head) return 'ends inside a box'
    const type = head.toString('latin1', 4, 8)
    hasIndex ||= type === 'moov' || type === 'moof'
    let boxBytes = head.readUInt32BE()
    if (boxBytes === 1) {
      const large = await read(opened, at + 8, 8)
      if (!large) return 'ends inside a box'
      boxBytes = Number(large.readBigUInt64BE())
    }
    if (boxBytes === 0) return type === 'mdat' ? 'is still being recorded' : undefined
    if (boxBytes < 8) return 'has a damaged box'
    at += boxBytes
  }
  if (at !== opened.sizeBytes) return 'ends inside a box'
  return hasIndex ? undefined : 'has no index (moov)'
}

const CHECKS: Readonly<Record<string, Check>> = {
  '.safetensors': checkSafetensors,
  '.pt': checkZip,
  '.pth': checkZip,
  '.ckpt': checkZip,
  '.bin': checkZip,
  '.zip': checkZip,
  '.npz': checkZip,
  '.gguf': checkGguf,
  '.mp4': checkMp4,
  '.mov': checkMp4,
}

const read = async (opened: Opened, at: number, bytes: number): Promise<Buffer | undefined> => {
  if (at + bytes > opened.sizeBytes) return undefined
  const buffer = Buffer.alloc(bytes)
  const result = await opened.file.read(buffer, 0, bytes, at)
  return result.bytesRead === bytes ? buffer : undefined
}
