import type { Problem } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import { freeBytes } from '../platform/files.ts'
import type { PlannedDist } from './resolution.ts'

/** A wheel lies packed beside what it unpacks to, which is mostly two to three times as large. */
const UNPACKED = 4

/** What an overlay takes while wheels of so many bytes are installed into it. */
export const overlayBytes = (packed: number): number => UNPACKED * packed

/** Packed bytes of the planned wheels, as far as the index tells their sizes. */
export const packedBytes = (dists: readonly PlannedDist[]): number =>
  dists.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0)

/** Whether the planned wheels fit the disk that the overlay grows on. */
export const checkDisk = async (
  dists: readonly PlannedDist[],
  folder: string,
): Promise<readonly Problem[]> => {
  const needBytes = overlayBytes(packedBytes(dists))
  if (needBytes === 0) return []
  const free = await freeBytes(folder)
  if (needBytes <= free) return []
  return [
    {
      code: 'disk_too_small',
      severity: 'error',
      subject: folder,
      subjects: dists.map(({ name }) => name),
      message: `the disk of ${folder} has ${formatSize(free)} free; the packages take about ${formatSize(needBytes)}`,
      hint: `Free ${formatSize(needBytes - free)} on ${folder} or rent a larger disk.`,
    },
  ]
}
