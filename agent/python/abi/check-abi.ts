import { Worker } from 'node:worker_threads'
import { AgentError } from '../../../shared/contract/errors.ts'
import { errorText } from '../../platform/files.ts'
import { programFile } from '../../platform/program-file.ts'
import type { AbiAnswer } from './abi-layout.ts'
import type { AbiQuestion } from './abi-worker.ts'

const WORKER = programFile(import.meta.dirname, 'abi-worker.ts', 'abi-worker.js')

/**
 * Checks every shared object of an environment without running any of its code.
 * @throws AgentError io_error; the signal's reason after an abort
 */
export const checkAbi = async (
  question: AbiQuestion,
  context: { readonly signal: AbortSignal },
): Promise<AbiAnswer> => {
  context.signal.throwIfAborted()
  const worker = new Worker(WORKER, { workerData: question })
  const stop = (): void => {
    void worker.terminate() // The thread only reads; nothing waits for its end.
  }
  context.signal.addEventListener('abort', stop, { once: true })
  try {
    return await new Promise<AbiAnswer>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', () => reject(new Error('the thread ended early')))
    })
  } catch (error) {
    context.signal.throwIfAborted()
    throw new AgentError('io_error', `the shared objects cannot be checked: ${errorText(error)}`, {
      cause: error,
    })
  } finally {
    context.signal.removeEventListener('abort', stop)
    stop()
  }
}
