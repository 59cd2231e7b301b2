import { broken } from './http-head.ts'

export type ChunkDecoder = {
  /** Moves the content to the front of `bytes` and says how long it is. @throws AgentError source_unavailable */
  decode(bytes: Buffer): number
  /** True after the last chunk and its trailer. */
  isDone(): boolean
  /** True when bytes came after the end. */
  hasRest(): boolean
}

/** Longest line between chunks: a size with its extension, or a trailer. */
const LONGEST_LINE = 8 * 2 ** 10

/** Takes the frames out of a chunked body, in the buffer that it arrived in. */
export const createChunkDecoder = (): ChunkDecoder => {
  let state: 'size' | 'content' | 'content-end' | 'trailer' | 'done' = 'size'
  let left = 0
  let line = ''
  let rest = false

  const endLine = (): void => {
    const text = line.replace(/\r$/, '')
    line = ''
    if (state === 'content-end') {
      if (text !== '') throw broken('a chunk is longer than it said')
      state = 'size'
    } else if (state === 'trailer') {
      if (text === '') state = 'done'
    } else {
      const size = /^([0-9a-f]{1,13})[ \t]*(?:;.*)?$/i.exec(text)?.[1]
      if (size === undefined) throw broken('a chunk has no size')
      left = Number.parseInt(size, 16)
      state = left === 0 ? 'trailer' : 'content'
    }
  }

  return {
    decode: (bytes) => {
      let kept = 0
      for (let at = 0; at < bytes.length;) {
        if (state === 'done') {
          rest = true
          break
        }
        if (state === 'content') {
          const taken = Math.min(left, bytes.length - at)
          bytes.copyWithin(kept, at, at + taken)
          kept += taken
          at += taken
          left -= taken
          if (left === 0) state = 'content-end'
          continue
        }
        const end = bytes.indexOf(10, at)
        line += bytes.toString('latin1', at, end === -1 ? bytes.length : end)
        if (line.length > LONGEST_LINE) throw broken('a line between chunks does not end')
        at = end === -1 ? bytes.length : end + 1
        if (end !== -1) endLine()
      }
      return kept
    },
    isDone: () => state === 'done',
    hasRest: () => rest,
  }
}
