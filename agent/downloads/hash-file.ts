import { Worker } from 'node:worker_threads'
import { AgentError } from '../../shared/contract/errors.ts'
import { errorText, fileError } from '../platform/files.ts'
import { programFile } from '../platform/program-file.ts'

export type FileHashes = {
  readonly sizeBytes: number
  readonly sha256: string
  /** As git names a blob; only where it was asked for. */
  readonly gitSha1: string | null
}

export type HashRequest = { readonly path: string; readonly withGitSha1: boolean }

const WORKER = programFile(import.meta.dirname, 'hash-worker.ts', 'hash-worker.js')

/**
 * Reads every byte of a file once, in a thread of its own.
 * @throws AgentError io_error; the signal's reason after an abort
 */
export const hashFile = async (
  request: HashRequest,
  context: { readonly signal: AbortSignal },
): Promise<FileHashes> => {
  context.signal.throwIfAborted()
  const worker = new Worker(WORKER, { workerData: request })
  const stop = (): void => {
    void worker.terminate() // The thread only reads; nothing waits for its end.
  }
  context.signal.addEventListener('abort', stop, { once: true })
  try {
    return await new Promise<FileHashes>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', () => reject(new Error('the hashing thread ended early')))
    })
  } catch (error) {
    context.signal.throwIfAborted()
    const failure = fileError(error, `cannot read ${request.path}`)
    if (failure instanceof AgentError) throw failure
    throw new AgentError('io_error', `cannot read ${request.path}: ${errorText(error)}`, { cause: error })
  } finally {
    context.signal.removeEventListener('abort', stop)
    stop()
  }
}
