import { parentPort, workerData } from 'node:worker_threads'
import type { AbiLayout } from './abi-layout.ts'
import { checkObjects } from './check-objects.ts'

/* Checks an environment in a thread of its own: a second of work and 100 MB, gone again with the thread. */

/** What the thread is asked. */
export type AbiQuestion = AbiLayout

parentPort?.postMessage(checkObjects(workerData as AbiQuestion))
