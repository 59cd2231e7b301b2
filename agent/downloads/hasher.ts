import { AgentError } from '../../shared/contract/errors.ts'
import { errorText, fileError } from '../platform/files.ts'
import { type FileHashes, type HashAnswer, type HashThread, startHashThread } from './hash-thread.ts'

/** Follows one growing file. Bytes are hashed in their order, as far as they have no gap before them. */
export type FileFollower = {
  /** Bytes up to here are on disk and will not change. */
  advance(upTo: number): void
  /** All bytes are to be written again. */
  restart(): void
  /** @throws AgentError io_error; the signal's reason after an abort */
  finish(sizeBytes: number, context: { readonly signal: AbortSignal }): Promise<FileHashes>
  /** Lets go of the file. May be called after `finish`. */
  drop(): void
}

export type Hasher = {
  follow(file: {
    readonly path: string
    readonly gitSizeBytes: number | null
    /** Told of every few megabytes that were hashed. */
    readonly onHashed?: ((bytes: number) => void) | undefined
  }): FileFollower
}

/** One thread keeps up with a 10 Gbit/s line and takes files in turn; each further one costs 10 MB. */
const MOST_THREADS = 1
/** Threads without a file end after this long, and their memory with them. */
const IDLE_MS = 3_000

/** Hashes every file of the agent on few threads, which are there only while there is something to hash. */
export const createHasher = (): Hasher => {
  const threads: HashThread[] = []
  const waiting = new Map<number, { resolve: (hashes: FileHashes) => void; reject: (e: unknown) => void }>()
  const failed = new Map<number, unknown>()
  const progress = new Map<number, (bytes: number) => void>()
  let nextId = 1

  const settle = (answer: HashAnswer): void => {
    if ('hashedBytes' in answer) {
      progress.get(answer.id)?.(answer.hashedBytes)
      return
    }
    const waiter = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (!('error' in answer)) waiter?.resolve(answer)
    else if (waiter) waiter.reject(answer.error)
    else failed.set(answer.id, answer.error)
  }

  const startThread = (): HashThread => {
    const thread: HashThread = startHashThread({
      answer: settle,
      end: (error) => {
        if (threads.includes(thread)) threads.splice(threads.indexOf(thread), 1)
        for (const id of thread.open) settle({ id, error })
      },
    })
    threads.push(thread)
    return thread
  }

  const leastBusy = (): HashThread => {
    const [first] = threads.toSorted((a, b) => a.open.size - b.open.size)
    return first && (first.open.size === 0 || threads.length >= MOST_THREADS) ? first : startThread()
  }

  const endIdle = (thread: HashThread): void => {
    const timer = setTimeout(() => {
      if (thread.open.size > 0 || !threads.includes(thread)) return
      threads.splice(threads.indexOf(thread), 1)
      thread.end()
    }, IDLE_MS)
    timer.unref()
  }

  return {
    follow: ({ path, gitSizeBytes, onHashed }) => {
      const thread = leastBusy()
      const id = nextId
      nextId += 1
      thread.open.add(id)
      thread.hold(true)
      if (onHashed) progress.set(id, onHashed)
      thread.send({ kind: 'open', id, path, gitSizeBytes, tellsProgress: onHashed !== undefined })
      let told = 0

      const drop = (): void => {
        failed.delete(id)
        progress.delete(id)
        if (!thread.open.delete(id)) return
        thread.send({ kind: 'drop', id })
        if (thread.open.size > 0) return
        thread.hold(false)
        endIdle(thread)
      }
      return {
        advance: (upTo) => {
          if (upTo <= told) return
          told = upTo
          thread.send({ kind: 'advance', id, upTo })
        },
        restart: () => {
          told = 0
          thread.send({ kind: 'restart', id })
        },
        finish: async (sizeBytes, { signal }) => {
          signal.throwIfAborted()
          let abort: (() => void) | undefined
          try {
            return await new Promise<FileHashes>((resolve, reject) => {
              abort = () => reject(signal.reason as Error)
              signal.addEventListener('abort', abort, { once: true })
              waiting.set(id, { resolve, reject })
              if (failed.has(id)) settle({ id, error: failed.get(id) })
              else thread.send({ kind: 'finish', id, sizeBytes })
            })
          } catch (error) {
            signal.throwIfAborted()
            const failure = fileError(error, `cannot read ${path}`)
            if (failure instanceof AgentError) throw failure
            throw new AgentError('io_error', `cannot read ${path}: ${errorText(error)}`, { cause: error })
          } finally {
            if (abort) signal.removeEventListener('abort', abort)
            waiting.delete(id)
            drop()
          }
        },
        drop,
      }
    },
  }
}
