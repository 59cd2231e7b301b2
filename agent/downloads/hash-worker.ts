import { createHash, type Hash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import type { HashAnswer, HashOrder } from './hash-thread.ts'

/*
 * Hashes files in a thread of its own: at a gigabyte a second it would stall every transfer on the main thread. A file
 * is followed while it grows, so that at its end only the tail is left; what was just written still lies in memory.
 */

type Followed = {
  readonly descriptor: number
  sha256: Hash
  gitSha1: Hash | undefined
  readonly gitSizeBytes: number | null
  readonly tellsProgress: boolean
  done: number
  upTo: number
  finishing: boolean
}

/** Read at once. */
const READ_BYTES = 2 ** 20
/** Hashed of one file before the others get their turn, and orders are looked at. */
const TURN_BYTES = 8 * 2 ** 20

const port = parentPort
const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
const files = new Map<number, Followed>()
let pumping = false

const start = (gitSizeBytes: number | null): Pick<Followed, 'sha256' | 'gitSha1'> => ({
  sha256: createHash('sha256'),
  gitSha1: gitSizeBytes === null ? undefined : createHash('sha1').update(`blob ${gitSizeBytes}\0`),
})

const answer = (message: HashAnswer): void => port?.postMessage(message)

const drop = (id: number): void => {
  const file = files.get(id)
  files.delete(id)
  if (file) closeSync(file.descriptor)
}

const hashSome = (file: Followed): void => {
  const stop = Math.min(file.upTo, file.done + TURN_BYTES)
  while (file.done < stop) {
    const count = readSync(file.descriptor, buffer, 0, Math.min(READ_BYTES, stop - file.done), file.done)
    if (count === 0) throw new Error(`the file ends at byte ${file.done}, before ${file.upTo}`)
    const bytes = buffer.subarray(0, count)
    file.sha256.update(bytes)
    file.gitSha1?.update(bytes)
    file.done += count
  }
}

/** A turn for each file that has bytes, then a look at the orders, until nothing is left. */
const pump = (): void => {
  pumping = false
  for (const [id, file] of files) {
    try {
      const before = file.done
      hashSome(file)
      if (file.tellsProgress && file.done > before) answer({ id, hashedBytes: file.done - before })
      if (file.done < file.upTo) schedule()
      else if (file.finishing) {
        answer({
          id,
          sizeBytes: file.done,
          sha256: file.sha256.digest('hex'),
          gitSha1: file.gitSha1?.digest('hex') ?? null,
        })
        drop(id)
      }
    } catch (error) {
      answer({ id, error })
      drop(id)
    }
  }
}

const schedule = (): void => {
  if (pumping) return
  pumping = true
  setImmediate(pump)
}

const follow = (order: HashOrder): void => {
  if (order.kind === 'open') {
    try {
      files.set(order.id, {
        descriptor: openSync(order.path, 'r'),
        ...start(order.gitSizeBytes),
        gitSizeBytes: order.gitSizeBytes,
        tellsProgress: order.tellsProgress,
        done: 0,
        upTo: 0,
        finishing: false,
      })
    } catch (error) {
      answer({ id: order.id, error })
    }
    return
  }
  const file = files.get(order.id)
  if (file === undefined) return
  switch (order.kind) {
    case 'advance':
      file.upTo = Math.max(file.upTo, order.upTo)
      break
    case 'restart':
      Object.assign(file, { ...start(file.gitSizeBytes), done: 0, upTo: 0 })
      break
    case 'finish':
      file.upTo = order.sizeBytes
      file.finishing = true
      break
    case 'drop':
      drop(order.id)
      return
    default:
      order satisfies never
  }
  schedule()
}

port?.on('message', follow)
