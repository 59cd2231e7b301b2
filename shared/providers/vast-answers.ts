import { z } from 'zod'
import type { Instance, InstanceState, Offer } from './provider.ts'

/*
 * What Vast.ai answers. Fields that are not named here are dropped: an instance's answer also holds its environment,
 * secrets included. A field that is missing or of another kind is null: one odd field must not hide a machine that bills.
 */

const text = z.string().nullish().catch(null)
const number = z.number().nullish().catch(null)

export const VastInstance = z.object({
  id: z.number(),
  label: text,
  /** What the container does: null, created, loading, running, stopped, exited, frozen, rebooting, unknown, offline. */
  actual_status: text,
  /** What was asked for. */
  intended_status: text,
  /** What the contract is: running bills the GPU. */
  cur_state: text,
  status_msg: text,
  gpu_name: text,
  num_gpus: number,
  dph_total: number,
  storage_total_cost: number,
  start_date: number,
  public_ipaddr: text,
  ssh_host: text,
  ssh_port: number,
  // A map, whatever the published schema says.
  ports: z
    .record(z.string(), z.array(z.object({ HostPort: z.coerce.number() })).nullable())
    .nullish()
    .catch(null),
})
export type VastInstance = z.infer<typeof VastInstance>

/** `instances` is null, or no object, once the instance is destroyed. */
export const VastShown = z.object({ instances: z.unknown() })

export const VastPage = z.object({
  instances: z.array(VastInstance),
  next_token: z.union([z.string(), z.number()]).nullish(),
})

export const VastCreated = z.object({
  success: z.boolean().nullish().catch(null),
  new_contract: z.number().nullish().catch(null),
})

export const VastOffers = z.object({
  offers: z.array(
    z.object({
      id: z.number(),
      gpu_name: z.string(),
      num_gpus: z.number(),
      dph_total: z.number(),
      gpu_ram: number,
      disk_space: number,
      driver_version: text,
      cuda_max_good: number,
      compute_cap: number,
      inet_down: number,
      inet_down_cost: number,
      reliability2: number,
      geolocation: text,
    }),
  ),
})
type VastOffer = z.infer<typeof VastOffers>['offers'][number]

export const toInstance = (row: VastInstance): Instance => {
  const state = stateOf(row)
  const isStopped = state === 'stopped'
  return {
    id: String(row.id),
    provider: 'vast',
    label: row.label ?? null,
    state,
    message: row.status_msg?.trim() || null,
    gpu: row.gpu_name?.replaceAll('_', ' ') ?? null,
    gpuCount: row.num_gpus ?? null,
    usdPerHour: (isStopped ? row.storage_total_cost : row.dph_total) ?? null,
    since: row.start_date ? new Date(row.start_date * 1000).toISOString() : null,
    ssh: sshOf(row),
  }
}

/**
 * The contract (`cur_state`) decides about money, the container (`actual_status`) about use. A stop that was accepted
 * shows in `intended_status` alone; a container that exited by itself goes on billing while the contract runs.
 */
const stateOf = (row: VastInstance): InstanceState => {
  const { actual_status: actual, cur_state: contract, intended_status: intended } = row
  const isContractStopped = contract === 'stopped' || contract === 'unloaded'
  const isContainerStopped = actual === 'stopped' || actual === 'exited'
  if (isContractStopped && actual !== 'running') return 'stopped'
  if (isContainerStopped && !contract && intended === 'stopped') return 'stopped'
  if (intended === 'stopped') return 'stopping'
  if (isContainerStopped) return 'failed'
  switch (actual) {
    case 'running':
      return 'running'
    case 'created':
      // Docker could not start it, and will not try again.
      return row.status_msg?.includes('OCI runtime create failed') ? 'failed' : 'loading'
    case null:
    case undefined:
    case 'loading':
    case 'rebooting':
      return /^error/i.test(row.status_msg ?? '') ? 'failed' : 'loading'
    default:
      return 'unknown'
  }
}

/** The machine's own port where it has one, else Vast.ai's proxy. */
const sshOf = (row: VastInstance): Instance['ssh'] => {
  const port = row.ports?.['22/tcp']?.[0]?.HostPort
  const host = row.public_ipaddr?.trim()
  if (host && port) return { host, port, user: 'root' }
  return row.ssh_host && row.ssh_port ? { host: row.ssh_host, port: row.ssh_port, user: 'root' } : null
}

export const toOffer = (row: VastOffer): Offer => ({
  id: String(row.id),
  provider: 'vast',
  gpu: row.gpu_name.replaceAll('_', ' '),
  gpuCount: row.num_gpus,
  // MiB, as nvidia-smi counts.
  vramBytes: row.gpu_ram ? row.gpu_ram * 2 ** 20 : null,
  usdPerHour: row.dph_total,
  diskBytes: row.disk_space ? row.disk_space * 1e9 : null,
  driver: row.driver_version ?? null,
  cuda: row.cuda_max_good ? String(row.cuda_max_good) : null,
  computeCapability: row.compute_cap ? (row.compute_cap / 100).toFixed(1) : null,
  downBytesPerSecond: row.inet_down ? (row.inet_down * 1e6) / 8 : null,
  usdPerGbDown: row.inet_down_cost ?? null,
  reliability: row.reliability2 ?? null,
  location: row.geolocation ?? null,
})
