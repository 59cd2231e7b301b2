import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Facts } from './facts.ts'

/** Kept free on every disk, so that logs, the state and the user still have room: 2 % of it, 2 GB at most. */
const reserveOf = (totalBytes: number): number => Math.min(2e9, Math.round(totalBytes * 0.02))

/** Bytes that are going to be written at a path; null while a size is not known. */
export type DiskNeed = {
  readonly to: string
  readonly path: string
  readonly bytes: number | null
  /** Packages go into an overlay; everything else is a download. */
  readonly isOverlay?: boolean
}

/** Everything that is to be fetched and installed must fit, on each file system, before the first byte is fetched. */
export const checkDisks = (
  wanted: readonly DiskNeed[],
  facts: Pick<Facts, 'disks'>,
  required: { readonly path: string; readonly bytes: number },
): readonly Problem[] => {
  const needs = new Map<number, { bytes: number; overlayBytes: number; subjects: string[] }>()
  for (const { to, path, bytes, isOverlay } of wanted) {
    const device = facts.disks.get(path)?.device
    if (device === undefined || bytes === null) continue
    const need = needs.get(device) ?? { bytes: 0, overlayBytes: 0, subjects: [] }
    need.bytes += bytes
    if (isOverlay === true) need.overlayBytes += bytes
    need.subjects.push(to)
    needs.set(device, need)
  }
  const wantedFree = facts.disks.get(required.path)
  return [...new Map([...facts.disks.values()].map((disk) => [disk.device, disk])).values()].flatMap(
    (disk) => {
      const need = needs.get(disk.device)
      const beside = disk.device === wantedFree?.device ? required.bytes : 0
      if (need === undefined && beside === 0) return []
      const bytes = (need?.bytes ?? 0) + Math.max(beside, reserveOf(disk.totalBytes))
      if (bytes <= disk.freeBytes) return []
      const error = new AgentError(
        'disk_too_small',
        `the disk of ${disk.path} has ${formatSize(disk.freeBytes)} free; ${formatSize(bytes)} are needed: ` +
          `${namePurposes(need)} and ${formatSize(bytes - (need?.bytes ?? 0))} to stay free`,
        { hint: `Free ${formatSize(bytes - disk.freeBytes)} on ${disk.path} or rent a larger disk.` },
      )
      // Where even an empty list of downloads would not leave enough, they are not the cause.
      const [subject = disk.path, ...subjects] =
        beside > disk.freeBytes ? ['requires.disk_free'] : (need?.subjects ?? [])
      return [{ ...problemFrom(error, subject), ...(subjects.length > 0 ? { subjects } : {}) }]
    },
  )
}

const namePurposes = (
  need: { readonly bytes: number; readonly overlayBytes: number } | undefined,
): string => {
  const { bytes = 0, overlayBytes = 0 } = need ?? {}
  const downloads = bytes - overlayBytes
  return [
    ...(downloads > 0 || overlayBytes === 0 ? [`${formatSize(downloads)} of downloads`] : []),
    ...(overlayBytes > 0 ? [`${formatSize(overlayBytes)} of packages`] : []),
  ].join(', ')
}
