import type { PlanRecord } from '../contract/records.ts'
import type { Manifest } from '../manifest/schema.ts'

/** Bytes a second that an estimate assumes: one gigabit, what most rented boxes have at least. */
export const ASSUMED_BYTES_PER_SECOND = 125e6

/** Time and money for so many bytes; null where the amount or the rate is not known. */
export const estimateDownloads = (
  downloadBytes: number | null,
  { bytesPerSecond, usdPerHour }: { readonly bytesPerSecond: number; readonly usdPerHour: number | null },
): PlanRecord['estimate'] => {
  const seconds = downloadBytes === null ? null : Math.ceil(downloadBytes / bytesPerSecond)
  const usd =
    seconds === null || usdPerHour === null ? null : Math.round((seconds / 3600) * usdPerHour * 1e4) / 1e4
  return { downloadBytes, seconds, usd }
}

/** What an hour of the box costs by the manifest: the rate itself, else the most that it may be rented for. */
export const rateOf = (manifest: Manifest): number | null =>
  manifest.budget?.rate_usd_per_hour ?? manifest.instance?.max_price ?? null
