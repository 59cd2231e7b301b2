import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { readDistRecord } from '../dist-record.ts'
import type { Dist } from '../inspect-python.ts'
import { canonicalName } from '../inspect-python.ts'
import { isObjectName } from './list-objects.ts'
import { readElf } from './read-elf.ts'

/** Libraries of torch, of CUDA and of its driver. */
const COUPLING =
  /^lib(torch|c10|cuda\.so|cudart|cublas|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt|nccl|nvrtc|nvJitLink|nvshmem)/

/** Canonical names of the dists that own an object which is linked to torch or to CUDA: they fit one build of it. */
export const coupledDists = async (
  dists: readonly Dist[],
  context: { readonly signal: AbortSignal },
): Promise<readonly string[]> => {
  const coupled: string[] = []
  for (const dist of dists) {
    context.signal.throwIfAborted()
    const objects = (await readDistRecord(dist)).filter(({ path }) => isObjectName(path))
    if (objects.some(({ path }) => isCoupled(join(dist.location, path))))
      coupled.push(canonicalName(dist.name))
    // Some hundred files are read without waiting; the agent has other work too.
    await nextTurn()
  }
  return coupled
}

const isCoupled = (path: string): boolean => {
  const reading = readElf(path)
  return reading.state === 'object' && reading.object.needed.some((name) => COUPLING.test(name))
}
