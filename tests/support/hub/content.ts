import { createHash } from 'node:crypto'

export type Content = {
  readonly sizeBytes: number
  /** The bytes from `start` up to but without `end`. */
  read(start: number, end: number): Buffer
  readonly sha256: string
}

const BLOCK = 64 * 2 ** 10

/**
 * A file that is made up as it is read: the same seed gives the same bytes, and no disk or memory holds them, so it may
 * have any size. A `.safetensors` file gets a true header, a `.gguf` file its magic.
 */
export const makeContent = (options: {
  readonly name: string
  readonly sizeBytes: number
  readonly seed?: string
}): Content => {
  const { sizeBytes } = options
  const seed = options.seed ?? options.name
  const head = headFor(options.name, sizeBytes)
  const base = Buffer.concat(
    Array.from({ length: BLOCK / 32 }, (_, index) =>
      createHash('sha256').update(`${seed}:${index}`).digest(),
    ),
  )

  const read = (start: number, end: number): Buffer => {
    const bytes = Buffer.allocUnsafe(Math.max(0, end - start))
    for (let at = start; at < end;) {
      const block = Math.floor(at / BLOCK)
      const stop = Math.min(end, (block + 1) * BLOCK)
      base.copy(bytes, at - start, at - block * BLOCK, stop - block * BLOCK)
      // The block's number, so that no two blocks are alike and a misplaced one changes the hash.
      const stamp = Buffer.from(`${block}`.padStart(16))
      for (let i = 0; i < 16; i += 1) {
        const place = block * BLOCK + i
        if (place >= at && place < stop) bytes[place - start] = stamp[i] ?? 0
      }
      at = stop
    }
    if (start < head.length) head.copy(bytes, 0, start, Math.min(head.length, end))
    return bytes
  }
  return { sizeBytes, read, ...lazyHash(sizeBytes, read) }
}

/** A file with exactly this text. */
export const textContent = (text: string): Content => {
  const bytes = Buffer.from(text)
  const read = (start: number, end: number): Buffer => bytes.subarray(start, end)
  return { sizeBytes: bytes.length, read, ...lazyHash(bytes.length, read) }
}

const lazyHash = (sizeBytes: number, read: Content['read']): { readonly sha256: string } => {
  let known: string | undefined
  return {
    get sha256() {
      if (known === undefined) {
        const hash = createHash('sha256')
        for (let at = 0; at < sizeBytes; at += 2 ** 20)
          hash.update(read(at, Math.min(sizeBytes, at + 2 ** 20)))
        known = hash.digest('hex')
      }
      return known
    },
  }
}

const HEADER_BYTES = 120

const headFor = (name: string, sizeBytes: number): Buffer => {
  if (name.endsWith('.gguf')) return Buffer.from('GGUF')
  if (!name.endsWith('.safetensors') || sizeBytes < HEADER_BYTES + 8) return Buffer.alloc(0)
  const data = sizeBytes - HEADER_BYTES - 8
  const header = JSON.stringify({ weight: { dtype: 'U8', shape: [data], data_offsets: [0, data] } })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(HEADER_BYTES))
  return Buffer.concat([length, Buffer.from(header.padEnd(HEADER_BYTES))])
}
