import { z } from 'zod'
import type { Instance, InstanceState, Offer } from './provider.ts'

/* What RunPod's API v2 answers; see vast-answers.ts for how it is read. */

const text = z.string().nullish().catch(null)
const number = z.number().nullish().catch(null)

export const RunpodPod = z.object({
  id: z.string().min(1),
  name: text,
  status: text,
  cost: number,
  createdAt: text,
  startedAt: text,
  gpu: z.object({ id: text, count: number }).nullish().catch(null),
  mounts: z
    .object({ persistent: z.object({ size: number }).nullish() })
    .nullish()
    .catch(null),
  ssh: z
    .object({
      direct: z.object({ host: z.string(), port: z.number(), username: text }).nullish().catch(null),
    })
    .nullish()
    .catch(null),
})
type RunpodPod = z.infer<typeof RunpodPod>

export const RunpodPods = z.object({ pods: z.array(RunpodPod) })

const level = z.string().nullish().catch(null)
export const RunpodGpus = z.object({
  gpus: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      memory: number,
      secure: z.boolean().catch(false),
      price: z.object({ secure: number, community: number }),
      maxCount: z.object({ secure: number }).nullish().catch(null),
      availability: level,
      cudaVersions: z
        .array(z.object({ version: text, availability: level }))
        .nullish()
        .catch(null),
    }),
  ),
})
type RunpodGpu = z.infer<typeof RunpodGpus>['gpus'][number]

/** A stopped pod pays for its volume alone: $0.20 for 10^9 bytes a month (RunPod's price list, 2026-08). */
const STOPPED_USD_PER_GB_HOUR = 0.2 / 730

export const toInstance = (pod: RunpodPod): Instance => {
  const state = stateOf(pod.status)
  const direct = pod.ssh?.direct
  return {
    id: pod.id,
    provider: 'runpod',
    label: pod.name ?? null,
    state,
    message: null,
    gpu: pod.gpu?.id ?? null,
    gpuCount: pod.gpu?.count ?? null,
    usdPerHour:
      state === 'stopped'
        ? (pod.mounts?.persistent?.size ?? 0) * STOPPED_USD_PER_GB_HOUR
        : (pod.cost ?? null),
    since: pod.startedAt ?? pod.createdAt ?? null,
    // Its proxy carries no forwards, so the direct way is the only one.
    ssh: direct ? { host: direct.host, port: direct.port, user: direct.username ?? 'root' } : null,
  }
}

const STATES: Readonly<Record<string, InstanceState>> = {
  PROVISIONING: 'loading',
  STARTING: 'loading',
  RUNNING: 'running',
  EXITED: 'stopped',
  ERROR: 'failed',
  TERMINATED: 'gone',
}

const stateOf = (status: string | null | undefined): InstanceState => STATES[status ?? ''] ?? 'unknown'

/** RunPod places a type of GPU, not one machine: an offer is a type that is in stock. */
export const toOffers = (
  gpus: readonly RunpodGpu[],
  query: { readonly gpuCount: number; readonly diskBytes: number },
): readonly Offer[] =>
  gpus
    .filter((gpu) => gpu.secure && gpu.availability !== 'NONE' && gpu.price.secure)
    .filter((gpu) => (gpu.maxCount?.secure ?? query.gpuCount) >= query.gpuCount)
    .map((gpu) => ({
      id: gpu.id,
      provider: 'runpod',
      gpu: gpu.name,
      gpuCount: query.gpuCount,
      vramBytes: gpu.memory ? gpu.memory * 1e9 : null,
      usdPerHour:
        (gpu.price.secure ?? 0) * query.gpuCount + (query.diskBytes / 1e9) * RUNNING_USD_PER_GB_HOUR,
      diskBytes: null,
      driver: null,
      cuda: newest(gpu.cudaVersions?.map(({ version }) => version ?? '') ?? []),
      computeCapability: null,
      downBytesPerSecond: null,
      // RunPod charges no traffic.
      usdPerGbDown: 0,
      reliability: null,
      location: null,
    }))

/** $0.10 for 10^9 bytes a month while it runs. */
const RUNNING_USD_PER_GB_HOUR = 0.1 / 730

const newest = (versions: readonly string[]): string | null =>
  versions.filter((version) => /^\d+\.\d+$/.test(version)).toSorted((a, b) => Number(b) - Number(a))[0] ??
  null
