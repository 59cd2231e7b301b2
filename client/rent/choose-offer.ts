import { AgentError } from '../../shared/contract/errors.ts'
import { isSameGpu } from '../../shared/providers/gpu-name.ts'
import type { Offer } from '../../shared/providers/provider.ts'

/** What a box must be and what it is for. */
export type Wanted = {
  readonly gpus: readonly string[]
  readonly gpuCount: number
  readonly diskBytes: number
  readonly maxUsdPerHour: number | null
  readonly minVramBytes: number | null
  readonly minDriver: string | null
  readonly minComputeCapability: string | null
  /** What the image was built for, where its name tells. */
  readonly minCuda: string | null
  readonly downloadBytes: number
  /** How long it will be used: what the price of its download is set against. */
  readonly hours: number
}

/** An offer that fits, and what it costs until the downloads are done and for the whole use. */
export type RankedOffer = { readonly offer: Offer; readonly downloadUsd: number; readonly totalUsd: number }

/** Hosts below this lose one box in twenty; the providers hide most of them themselves. */
const MIN_RELIABILITY = 0.95
const ASSUMED_BYTES_PER_SECOND = 50e6

/** The offers that fit, the cheapest for the whole use first. @throws AgentError no_offer, with what was in the way */
export const chooseOffers = (offers: readonly Offer[], wanted: Wanted): readonly RankedOffer[] => {
  const reasons = new Map<string, number>()
  const fitting = offers.filter((offer) => {
    const reason = CHECKS.find((check) => !check.fits(offer, wanted))?.reason(wanted)
    if (reason === undefined) return true
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
    return false
  })
  if (fitting.length > 0) return fitting.map((offer) => priced(offer, wanted)).toSorted(byCost)
  const why = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(', ')
  throw new AgentError(
    'no_offer',
    offers.length === 0
      ? `nobody offers ${wanted.gpuCount} × ${wanted.gpus.join(' or ') || 'any GPU'} now`
      : `none of ${offers.length} offers fits: ${why}`,
  )
}

type Check = {
  readonly fits: (offer: Offer, wanted: Wanted) => boolean
  /** Follows a number: “7 cost more than …”. */
  readonly reason: (wanted: Wanted) => string
}

/** What an offer does not tell is no reason against it: the box is checked again before anything is downloaded. */
const CHECKS: readonly Check[] = [
  {
    fits: ({ gpu }, { gpus }) => gpus.length === 0 || gpus.some((name) => isSameGpu(name, gpu)),
    reason: ({ gpus }) => `have another GPU than ${gpus.join(' or ')}`,
  },
  {
    fits: ({ vramBytes }, { minVramBytes }) =>
      minVramBytes === null || vramBytes === null || vramBytes >= minVramBytes,
    reason: ({ minVramBytes }) => `have less GPU memory than ${(minVramBytes ?? 0) / 1e9} GB`,
  },
  {
    fits: ({ computeCapability }, wanted) => isAtLeast(computeCapability, wanted.minComputeCapability),
    reason: ({ minComputeCapability }) => `have a GPU below compute capability ${minComputeCapability ?? ''}`,
  },
  {
    fits: ({ driver }, { minDriver }) => isAtLeast(driver, minDriver),
    reason: ({ minDriver }) => `have a driver older than ${minDriver ?? ''}`,
  },
  {
    fits: ({ cuda }, { minCuda }) => isAtLeast(cuda, minCuda),
    reason: ({ minCuda }) =>
      `have a driver that does not run CUDA ${minCuda ?? ''}, which the image is built for`,
  },
  {
    fits: ({ diskBytes }, wanted) => diskBytes === null || diskBytes >= wanted.diskBytes,
    reason: ({ diskBytes }) => `have less disk than ${diskBytes / 1e9} GB`,
  },
  {
    fits: ({ reliability }) => reliability === null || reliability >= MIN_RELIABILITY,
    reason: () => `are less reliable than ${MIN_RELIABILITY}`,
  },
  {
    fits: ({ usdPerHour }, { maxUsdPerHour }) => maxUsdPerHour === null || usdPerHour <= maxUsdPerHour,
    reason: ({ maxUsdPerHour }) => `cost more than $${(maxUsdPerHour ?? 0).toFixed(2)} an hour`,
  },
]

/** Versions as numbers, part by part; what is not told or not wanted fits. */
const isAtLeast = (value: string | null, least: string | null): boolean => {
  if (value === null || least === null) return true
  const [has, wants] = [value, least].map((text) => text.split('.').map(Number))
  for (const [index, part] of (wants ?? []).entries()) {
    const other = has?.[index] ?? 0
    if (other !== part) return other > part
  }
  return true
}

const priced = (offer: Offer, { downloadBytes, hours }: Wanted): RankedOffer => {
  const downloadHours = downloadBytes / (offer.downBytesPerSecond || ASSUMED_BYTES_PER_SECOND) / 3600
  const trafficUsd = (downloadBytes / 1e9) * (offer.usdPerGbDown ?? 0)
  const downloadUsd = downloadHours * offer.usdPerHour + trafficUsd
  return { offer, downloadUsd, totalUsd: downloadUsd + hours * offer.usdPerHour }
}

/** At the same cost the more reliable one. */
const byCost = (one: RankedOffer, other: RankedOffer): number =>
  one.totalUsd - other.totalUsd || (other.offer.reliability ?? 0) - (one.offer.reliability ?? 0)

/** The CUDA version in an image's name: `…:2.7-cuda12.8`, `…:cu128`; null when it has none. */
export const cudaOfImage = (image: string): string | null => {
  const found = /\bcu(?:da)?[-_]?(\d{2})[.]?(\d)/i.exec(image)
  return found ? `${found[1] ?? ''}.${found[2] ?? ''}` : null
}
