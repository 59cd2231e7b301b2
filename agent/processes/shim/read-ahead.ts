import { readSync } from 'node:fs'

/** What the kernel gives out of a terminal at most in one read, but for one byte that it may keep back. */
const FULL_READ_BYTES = 4_095
/**
 * What is read before it is written. A terminal holds some tens of KB, so its process waits while the log is written:
 * with two reads to a write it takes a tenth longer for 300 MB than without a log, with 16 and more a quarter.
 */
const PIECE_BYTES = 8 * 1024
/** Some milliseconds of a flood, so that nobody at the socket waits for long. */
const TURN_BYTES = 256 * 1024

/**
 * A terminal's output comes in reads of 4 KB, and node returns to its poll after each of them: 300 MB were 75,000 turns
 * of the event loop, which slowed the process by a fifth. So after a full read, what else is there is read at once,
 * written piece by piece as it comes. Never without end: a process that floods its terminal must not shut out a stop.
 * A shim that is killed loses one piece at the most.
 * @param master descriptor of the terminal, which does not block; undefined: there is nothing to read ahead from
 * @param onPiece its bytes are only lent: the next call overwrites them
 * @returns to be called with every read of node's own
 */
export const createReadAhead = (
  master: number | undefined,
  onPiece: (piece: Buffer) => void,
): ((read: Buffer) => void) => {
  if (master === undefined) return onPiece
  const buffer = Buffer.allocUnsafe(PIECE_BYTES)
  return (read) => {
    if (read.length < FULL_READ_BYTES || read.length > PIECE_BYTES) {
      onPiece(read)
      return
    }
    let length = read.copy(buffer)
    let last = length
    for (let turn = 0; last >= FULL_READ_BYTES && turn < TURN_BYTES; turn += last) {
      if (PIECE_BYTES - length < FULL_READ_BYTES) {
        onPiece(buffer.subarray(0, length))
        length = 0
      }
      last = readSome(master, buffer, length)
      length += last
    }
    onPiece(buffer.subarray(0, length))
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
