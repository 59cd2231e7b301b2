import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { parentPort, workerData } from 'node:worker_threads'
import type { FileHashes, HashRequest } from './hash-file.ts'

/* Hashes one file in a thread of its own: at a gigabyte a second it would stall every transfer on the main thread. */

const READ_BYTES = 4 * 2 ** 20

const { path, withGitSha1 } = workerData as HashRequest
const file = await open(path, 'r')
const { size } = await file.stat()
const sha256 = createHash('sha256')
const gitSha1 = withGitSha1 ? createHash('sha1').update(`blob ${size}\0`) : undefined
const buffer = Buffer.allocUnsafe(Math.max(1, Math.min(READ_BYTES, size)))
let sizeBytes = 0
for (;;) {
  const { bytesRead } = await file.read(buffer, 0, buffer.length, sizeBytes)
  if (bytesRead === 0) break
  const bytes = buffer.subarray(0, bytesRead)
  sha256.update(bytes)
  gitSha1?.update(bytes)
  sizeBytes += bytesRead
}
await file.close()
parentPort?.postMessage({
  sizeBytes,
  sha256: sha256.digest('hex'),
  gitSha1: gitSha1?.digest('hex') ?? null,
} satisfies FileHashes)
