import { statfs } from 'node:fs/promises'
import { freemem, hostname, totalmem } from 'node:os'
import type { HostRecord } from '../../shared/contract/records.ts'
import { deviceOf } from './files.ts'
import { readGpus } from './gpu.ts'
import type { Gpu } from './gpu.ts'

/** What the box is made of, now. `paths` are the folders whose disks matter; one row for each file system. */
export const readHost = async (
  paths: readonly string[],
  context: { readonly searchPath: string; readonly signal?: AbortSignal },
): Promise<HostRecord> => {
  const [gpus, disks] = await Promise.all([readGpus(context.searchPath, context.signal), readDisks(paths)])
  return {
    hostname: hostname(),
    gpus: gpus?.map(withoutCapability) ?? null,
    disks,
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
  }
}

const readDisks = async (paths: readonly string[]): Promise<HostRecord['disks']> => {
  const seen = new Set<number>()
  const disks: HostRecord['disks'] = []
  for (const path of paths) {
    const stats = await statfs(path).catch(() => undefined)
    if (stats === undefined) continue
    const device = await deviceOf(path)
    if (seen.has(device)) continue
    seen.add(device)
    disks.push({ path, totalBytes: stats.blocks * stats.bsize, freeBytes: stats.bavail * stats.bsize })
  }
  return disks
}

/** The API's row of a GPU: what people watch, without what only the plan needs. */
const withoutCapability = ({
  name,
  memoryTotalBytes,
  memoryUsedBytes,
  utilizationPercent,
  driver,
}: Gpu): NonNullable<HostRecord['gpus']>[number] => ({
  name,
  memoryTotalBytes,
  memoryUsedBytes,
  utilizationPercent,
  driver,
})
