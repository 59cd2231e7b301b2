import { Worker } from 'node:worker_threads'
import { programFile } from '../platform/program-file.ts'

/** What the hashing thread is told; `id` names one file among those it follows. */
export type HashOrder =
  | {
      readonly kind: 'open'
      readonly id: number
      readonly path: string
      /** The file's size where a git hash is wanted: it begins with it. */
      readonly gitSizeBytes: number | null
      /** How far it has come is told now and then. */
      readonly tellsProgress: boolean
    }
  /** Bytes up to here are on disk and will not change. */
  | { readonly kind: 'advance'; readonly id: number; readonly upTo: number }
  /** The bytes so far are no good: the file starts over. */
  | { readonly kind: 'restart'; readonly id: number }
  | { readonly kind: 'finish'; readonly id: number; readonly sizeBytes: number }
  | { readonly kind: 'drop'; readonly id: number }

export type FileHashes = {
  readonly sizeBytes: number
  readonly sha256: string
  /** As git names a blob; only where it was asked for. */
  readonly gitSha1: string | null
}

export type HashAnswer =
  | (FileHashes & { readonly id: number })
  | { readonly id: number; readonly error: unknown }
  | { readonly id: number; readonly hashedBytes: number }

export type HashThread = {
  send(order: HashOrder): void
  /** Files that it follows. */
  readonly open: Set<number>
  /** While held it keeps the program running. */
  hold(isHeld: boolean): void
  end(): void
}

const WORKER = programFile(import.meta.dirname, 'hash-worker.ts', 'hash-worker.js')

/** A thread that hashes files as they grow. `onEnd` tells that it died, with what of. */
export const startHashThread = (on: {
  readonly answer: (answer: HashAnswer) => void
  readonly end: (error: unknown) => void
}): HashThread => {
  // It reads into one buffer; small limits keep its own heap from growing as if it had the whole machine.
  const worker = new Worker(WORKER, {
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 },
  })
  worker.on('message', on.answer)
  worker.once('error', on.end)
  worker.once('exit', () => on.end(new Error('the hashing thread ended early')))
  return {
    send: (order) => {
      worker.postMessage(order)
    },
    open: new Set(),
    hold: (isHeld) => {
      if (isHeld) worker.ref()
      else worker.unref()
    },
    end: () => {
      worker.removeAllListeners('exit')
      void worker.terminate() // The thread only reads; nothing waits for its end.
    },
  }
}
