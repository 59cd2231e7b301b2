import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'

/** The disk that is going to be rented must hold the downloads, and what `requires.disk_free` wants beside them. */
export const checkRentedDisk = (
  manifest: Manifest,
  sizes: readonly (number | null)[],
): readonly Problem[] => {
  const disk = manifest.instance?.disk
  if (disk === undefined) return []
  const downloads = sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0)
  const beside = manifest.requires.disk_free ?? 0
  const needed = downloads + beside
  if (needed <= disk) return []
  const error = new AgentError(
    'disk_too_small',
    `instance.disk is ${formatSize(disk)}; ${formatSize(needed)} are needed: ${formatSize(downloads)} of downloads ` +
      `and ${formatSize(beside)} to stay free`,
    { hint: `Rent at least ${formatSize(needed)}, and what the image itself takes.` },
  )
  return [problemFrom(error, 'instance.disk')]
}
