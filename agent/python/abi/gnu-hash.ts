import type { FilePart } from './read-elf.ts'

/** The GNU hash table of an object: which symbols may have a name, without reading their names. */
export type GnuHash = {
  readonly sizeBytes: number
  /** Of all dynamic symbols; undefined where the table has no entries to tell it by. */
  readonly symbolCount: number | undefined
  /** Indexes of symbols with this hash. */
  candidates(hash: number): number[]
}

const HEAD_BYTES = 16

/** The hash of a symbol's name, as the GNU linker computes it. */
export const hashOf = (name: string): number => {
  let hash = 5381
  for (let at = 0; at < name.length; at += 1) hash = (Math.imul(hash, 33) + name.charCodeAt(at)) | 0
  return hash >>> 0
}

/** Reads the table at `at`. @throws Error when it ends too early */
export const readGnuHash = (file: FilePart, at: number): GnuHash => {
  const head = file.read(at, HEAD_BYTES)
  const bucketCount = head.readUInt32LE(0)
  const first = head.readUInt32LE(4)
  const bloomWords = head.readUInt32LE(8)
  const shift = head.readUInt32LE(12)
  const bucketsAt = at + HEAD_BYTES + bloomWords * 8
  const bloom = file.read(at + HEAD_BYTES, bloomWords * 8)
  const buckets = file.read(bucketsAt, bucketCount * 4)
  let last = 0
  for (let bucket = 0; bucket < buckets.length; bucket += 4)
    last = Math.max(last, buckets.readUInt32LE(bucket))
  const chainsAt = bucketsAt + buckets.length
  const end = last < first ? first : endOfChain(file, { chainsAt, first, from: last })
  const chains = file.read(chainsAt, (end - first) * 4)

  const mayHave = (hash: number): boolean => {
    const word = ((hash >>> 6) % bloomWords) * 8
    const hasBit = (bit: number): boolean =>
      ((bloom.readUInt32LE(word + (bit >= 32 ? 4 : 0)) >>> (bit & 31)) & 1) === 1
    return hasBit(hash & 63) && hasBit((hash >>> shift) & 63)
  }
  return {
    sizeBytes: bloom.length + buckets.length + chains.length,
    symbolCount: end > first ? end : undefined,
    candidates: (hash) => {
      const found: number[] = []
      if (bucketCount === 0 || bloomWords === 0 || !mayHave(hash)) return found
      const begin = buckets.readUInt32LE((hash % bucketCount) * 4)
      if (begin < first) return found
      for (let index = begin; index < end; index += 1) {
        const link = chains.readUInt32LE((index - first) * 4)
        // The lowest bit of a link marks the end of its chain.
        if ((link | 1) === (hash | 1)) found.push(index)
        if ((link & 1) === 1) break
      }
      return found
    },
  }
}

const BLOCK_LINKS = 1024

/** The index behind the chain that holds `from`: the chain of the last bucket ends with the last symbol. */
const endOfChain = (
  file: FilePart,
  of: { readonly chainsAt: number; readonly first: number; readonly from: number },
): number => {
  for (let index = of.from; ; index += BLOCK_LINKS) {
    const offset = of.chainsAt + (index - of.first) * 4
    const length = Math.min(BLOCK_LINKS * 4, file.size - offset)
    const block = file.read(offset, length - (length % 4))
    if (block.length === 0) throw new Error('its hash table has no end')
    for (let at = 0; at < block.length; at += 4)
      if ((block.readUInt32LE(at) & 1) === 1) return index + at / 4 + 1
  }
}
