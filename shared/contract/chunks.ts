/** 8 MiB: large enough for a fast link, small enough to lose little when it drops. */
export const CHUNK_BYTES = 8 * 2 ** 20

/** A part of a file; `end` is the last byte’s offset. */
export type Chunk = { readonly index: number; readonly start: number; readonly end: number }

/**
 * A file as chunks of 8 MiB. The header of a safetensors file is a chunk of its own, so that a header that grew does
 * not move the tensors off the grid.
 */
export const chunksOf = (sizeBytes: number, headerBytes = 0): Chunk[] => {
  const header = headerBytes > 0 ? [{ index: 0, start: 0, end: headerBytes - 1 }] : []
  const rest = Array.from({ length: Math.ceil((sizeBytes - headerBytes) / CHUNK_BYTES) }, (_, number) => ({
    index: header.length + number,
    start: headerBytes + number * CHUNK_BYTES,
    end: Math.min(sizeBytes, headerBytes + (number + 1) * CHUNK_BYTES) - 1,
  }))
  return [...header, ...rest]
}
