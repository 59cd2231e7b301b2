/** Bytes from `start` up to but without `end`. */
export type ByteRange = { readonly start: number; readonly end: number }

export type RangeBook = {
  /** Takes up to `most` missing bytes that nobody else has taken; undefined when there are none. */
  readonly take: (most: number) => ByteRange | undefined
  /** Gives back what was taken and not written. */
  readonly giveBack: (range: ByteRange) => void
  /** Notes bytes as written. They were taken before. */
  readonly written: (range: ByteRange) => void
  /** Everything written so far, in order, joined where it touches. */
  readonly done: () => readonly ByteRange[]
  readonly doneBytes: () => number
  /** Bytes that nobody has taken. */
  readonly freeBytes: () => number
  readonly isComplete: () => boolean
  /** Forgets everything: all bytes are missing again. */
  readonly reset: () => void
}

/** Which bytes of a file are missing, being fetched, and written. */
export const createRangeBook = (sizeBytes: number, done: readonly ByteRange[] = []): RangeBook => {
  let written = join(done)
  let free = gaps(written, sizeBytes)
  return {
    take: (most) => {
      const first = free.shift()
      if (first === undefined) return undefined
      const end = Math.min(first.end, first.start + most)
      if (end < first.end) free.unshift({ start: end, end: first.end })
      return { start: first.start, end }
    },
    giveBack: (range) => {
      if (range.start < range.end) free = join([...free, range])
    },
    written: (range) => {
      written = join([...written, range])
    },
    done: () => written,
    doneBytes: () => total(written),
    freeBytes: () => total(free),
    isComplete: () => total(written) === sizeBytes,
    reset: () => {
      written = []
      free = gaps([], sizeBytes)
    },
  }
}

const total = (ranges: readonly ByteRange[]): number =>
  ranges.reduce((sum, range) => sum + range.end - range.start, 0)

/** In order, without overlaps; ranges that touch become one, so that the list stays as short as there are holes. */
const join = (ranges: readonly ByteRange[]): ByteRange[] => {
  const joined: ByteRange[] = []
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = joined.at(-1)
    if (last && range.start <= last.end) {
      if (range.end > last.end) joined[joined.length - 1] = { start: last.start, end: range.end }
    } else joined.push(range)
  }
  return joined
}

const gaps = (written: readonly ByteRange[], sizeBytes: number): ByteRange[] => {
  const missing: ByteRange[] = []
  let at = 0
  for (const { start, end } of written) {
    if (start > at) missing.push({ start: at, end: start })
    at = Math.max(at, end)
  }
  if (at < sizeBytes) missing.push({ start: at, end: sizeBytes })
  return missing
}
