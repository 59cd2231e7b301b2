import type { FakeRequest, FakeReply, Handler, HandlerDeps } from './answers.ts'
import type { Machine } from './machines.ts'

/** One machine that Vast.ai's market offers, in its own fields; what is left out has a usual value. */
export type VastOffer = {
  readonly id: number
  readonly gpu_name?: string
  readonly num_gpus?: number
  readonly gpu_ram?: number
  readonly dph_total?: number
  readonly disk_space?: number
  readonly driver_version?: string
  readonly cuda_max_good?: number
  readonly compute_cap?: number
  readonly inet_down?: number
  readonly inet_down_cost?: number
  readonly reliability2?: number
  readonly verification?: string
  readonly direct_port_count?: number
}

const USUAL = {
  gpu_name: 'RTX 4090',
  num_gpus: 1,
  gpu_ram: 24_564,
  dph_total: 0.4,
  disk_space: 900,
  driver_version: '570.124.06',
  cuda_max_good: 12.8,
  compute_cap: 890,
  inet_down: 900,
  inet_up: 400,
  inet_down_cost: 0.002,
  reliability2: 0.995,
  verification: 'verified',
  direct_port_count: 20,
  rentable: true,
  rented: false,
  geolocation: 'Norway, NO',
  storage_cost: 0.2,
  // A field that no client of today knows.
  machine_mood: { colour: 'blue' },
}

const PAGE = 25

/** Vast.ai's REST API over the machines, with its oddities. */
export const createVastHandler = (offers: readonly VastOffer[], { machines }: HandlerDeps): Handler => {
  const taken = new Set<string>()
  const mine = (id: string): Machine | undefined => {
    const found = machines.find(id)
    return found?.provider === 'vast' && found.state !== 'gone' ? found : undefined
  }
  const row = (machine: Machine): Record<string, unknown> => {
    const { host, port } = machines.addressOf(machine)
    const isUp = machine.state === 'running'
    const isStopped = machine.state === 'stopped'
    return {
      id: Number(machine.id),
      label: machine.label,
      actual_status: isStopped ? 'exited' : machine.state === 'loading' ? 'loading' : machine.state,
      intended_status: machine.wanted,
      cur_state: isStopped ? 'stopped' : 'running',
      next_state: machine.wanted,
      status_msg:
        machine.state === 'exited' ? 'Error response from daemon: OCI runtime create failed' : 'success',
      gpu_name: machine.gpu,
      num_gpus: machine.gpuCount,
      dph_total: machine.usdPerHour,
      dph_base: machine.usdPerHour - machine.storageUsdPerHour,
      storage_total_cost: machine.storageUsdPerHour,
      start_date: machine.startedMs / 1000,
      is_bid: machine.isBid,
      public_ipaddr: isUp ? `${host}\n` : null,
      ssh_host: isUp ? host : null,
      ssh_port: isUp ? port : null,
      ports: isUp ? { '22/tcp': [{ HostIp: '0.0.0.0', HostPort: String(port) }] } : {},
      extra_env: Object.entries(machine.env),
      machine_mood: 'blue',
    }
  }
  const refuse = (status: number, error: string): FakeReply => ({
    status,
    body: { success: false, error, msg: `error ${status}/${error}` },
  })

  const create = (offerId: string, body: Readonly<Record<string, unknown>>): FakeReply => {
    const offer = offers.find(({ id }) => String(id) === offerId)
    if (offer === undefined) return refuse(404, 'no_such_ask')
    if (taken.has(offerId)) return refuse(410, 'no_such_ask')
    taken.add(offerId)
    if (typeof body['env'] !== 'object') return refuse(400, 'env must be an object')
    const { gpu_name, num_gpus, dph_total, storage_cost } = { ...USUAL, ...offer }
    const diskGb = Number(body['disk'])
    const machine = machines.make({
      provider: 'vast',
      label: textOf(body['label']),
      image: textOf(body['image']),
      onStart: textOf(body['onstart']),
      diskGb,
      gpu: gpu_name,
      gpuCount: num_gpus,
      env: body['env'] as Record<string, string>,
      usdPerHour: typeof body['price'] === 'number' ? body['price'] : dph_total,
      storageUsdPerHour: (diskGb * storage_cost) / 730,
      isBid: body['price'] !== undefined,
    })
    return { status: 200, body: { success: true, new_contract: Number(machine.id) } }
  }

  const one = /^\/api\/v0\/instances\/(\d+)\/$/
  return {
    tooMany: { status: 429, body: 'API requests too frequent' },
    intervalsMs: { create: 4_500, show: 2_000, stop: 1_000, start: 1_000, destroy: 3_000 },
    kindOf: ({ method, url: { pathname }, body }) => {
      if (pathname === '/api/v0/bundles/' && method === 'POST') return 'search'
      if (/^\/api\/v0\/asks\/\d+\/$/.test(pathname) && method === 'PUT') return 'create'
      if (pathname === '/api/v1/instances/' && method === 'GET') return 'list'
      if (!one.test(pathname)) return undefined
      if (method === 'PUT') return body['state'] === 'stopped' ? 'stop' : 'start'
      return method === 'GET' ? 'show' : method === 'DELETE' ? 'destroy' : undefined
    },
    accepted: () => ({ status: 200, body: { success: true } }),
    handle: ({ method, url: { pathname, searchParams }, body }: FakeRequest): FakeReply => {
      if (pathname === '/api/v0/bundles/') {
        const found = offers.map((offer) => ({ ...USUAL, ...offer })).filter((offer) => fits(offer, body))
        return {
          status: 200,
          body: { offers: found.toSorted((a, b) => a.dph_total - b.dph_total), success: true },
        }
      }
      const ask = /^\/api\/v0\/asks\/(\d+)\/$/.exec(pathname)?.[1]
      if (ask !== undefined) return create(ask, body)
      if (pathname === '/api/v1/instances/') {
        const all = machines.all().filter(({ provider }) => provider === 'vast')
        const from = Number(searchParams.get('after_token') ?? 0)
        const next = from + PAGE < all.length ? String(from + PAGE) : null
        return {
          status: 200,
          body: { success: true, instances: all.slice(from, from + PAGE).map(row), next_token: next },
        }
      }
      const machine = mine(one.exec(pathname)?.[1] ?? '')
      // After a destroy the answer is 200 with nothing in it.
      if (method === 'GET')
        return { status: 200, body: { instances: machine === undefined ? null : row(machine) } }
      if (machine === undefined) return refuse(404, 'no_such_instance')
      if (method === 'DELETE') machines.destroy(machine)
      else if (body['state'] === 'stopped') machines.stop(machine)
      else machines.start(machine)
      return { status: 200, body: { success: true } }
    },
  }
}

/** The operators that its search has: `{"gpu_name": {"in": ["RTX 4090"]}}`. */
const fits = (offer: Readonly<Record<string, unknown>>, query: Readonly<Record<string, unknown>>): boolean =>
  Object.entries(query).every(([field, wanted]) => {
    if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) return true
    const value = field === 'verified' ? offer['verification'] === 'verified' : offer[field]
    return Object.entries(wanted).every(([operator, operand]) => {
      switch (operator) {
        case 'eq':
          return value === operand
        case 'gte':
          return Number(value) >= Number(operand)
        case 'lte':
          return Number(value) <= Number(operand)
        case 'in':
          return (operand as unknown[]).includes(value)
        default:
          return true
      }
    })
  })

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
