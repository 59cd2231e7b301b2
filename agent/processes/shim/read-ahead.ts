import { readSync } from 'node:fs'

/** What the kernel gives out of a terminal at most in one read, but for one byte that it may keep back. */
const FULL_READ_BYTES = 4_095
/** Some milliseconds of a flood: few turns of the loop, and nobody at the socket waits for long. */
const BUFFER_BYTES = 256 * 1024

/**
 * A terminal's output comes in pieces of 4 KB, and node returns to its poll after each of them: 300 MB were 75,000 turns
 * of the event loop and as many writes of the log, which slowed the process by a fifth. So after a full piece, what else
 * is there is read at once. Never more than one buffer: a process that floods its terminal must not shut out a stop, and
 * a shim that is killed loses what it read in one turn at the most, because it waits for nothing before it writes.
 * @param master descriptor of the terminal, which does not block; undefined: there is nothing to read ahead from
 * @returns the piece and what followed it, in a buffer that the next call overwrites
 */
export const createReadAhead = (master: number | undefined): ((piece: Buffer) => Buffer) => {
  if (master === undefined) return (piece) => piece
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES)
  return (piece) => {
    if (piece.length < FULL_READ_BYTES || piece.length > BUFFER_BYTES) return piece
    let length = piece.copy(buffer)
    let last = length
    while (last >= FULL_READ_BYTES && length < BUFFER_BYTES) {
      last = readSome(master, buffer, length)
      length += last
    }
    return buffer.subarray(0, length)
  }
}

const readSome = (master: number, into: Buffer, at: number): number => {
  try {
    return readSync(master, into, at, into.length - at, null)
  } catch {
    // Nothing there yet, or the terminal was hung up: node's own reading meets the same and deals with it.
    return 0
  }
}
