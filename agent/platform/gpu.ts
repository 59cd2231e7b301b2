import type { HostRecord } from '../../shared/contract/records.ts'
import { findProgram, runCommand } from './commands.ts'

export type Gpu = NonNullable<HostRecord['gpus']>[number] & { readonly computeCapability: string | null }

const FIELDS = 'name,memory.total,memory.used,utilization.gpu,driver_version,compute_cap'
const TIMEOUT_MS = 5_000

/** The GPUs of the box by `nvidia-smi`; null when there is none to ask or it does not answer. */
export const readGpus = async (searchPath: string, signal?: AbortSignal): Promise<readonly Gpu[] | null> => {
  const program = findProgram('nvidia-smi', searchPath)
  if (program === undefined) return null
  const result = await runCommand([program, `--query-gpu=${FIELDS}`, '--format=csv,noheader,nounits'], {
    env: { PATH: searchPath, LANG: 'C' },
    timeoutMs: TIMEOUT_MS,
    ...(signal ? { signal } : {}),
  })
  return result.exitCode === 0 ? parseGpus(result.stdout) : null
}

/** Rows of nvidia-smi's CSV; fields it cannot tell (`[N/A]`) become null or 0, rows it cannot mean are left out. */
export const parseGpus = (csv: string): readonly Gpu[] =>
  csv
    .split('\n')
    .map((line) => line.split(',').map((field) => field.trim()))
    .filter((fields) => fields.length >= 5 && fields[0] !== '')
    .map(([name = '', total, used, utilization, driver = '', capability]) => ({
      name,
      memoryTotalBytes: mebibytes(total),
      memoryUsedBytes: mebibytes(used),
      utilizationPercent: numberOrNull(utilization),
      driver,
      computeCapability: capability !== undefined && /^\d+\.\d+$/.test(capability) ? capability : null,
    }))

const mebibytes = (field: string | undefined): number => (numberOrNull(field) ?? 0) * 2 ** 20

const numberOrNull = (field: string | undefined): number | null =>
  field !== undefined && /^\d+(\.\d+)?$/.test(field) ? Number(field) : null
