import type { FakeReply, FakeRequest, Handler, HandlerDeps } from './answers.ts'
import type { Machine } from './machines.ts'

/** One type of GPU in RunPod's catalogue. */
export type RunpodGpu = {
  readonly id: string
  readonly name: string
  readonly memory?: number
  readonly usdPerHour?: number
  readonly availability?: 'HIGH' | 'LOW' | 'NONE'
}

const STATUS = {
  loading: 'STARTING',
  running: 'RUNNING',
  stopped: 'EXITED',
  exited: 'ERROR',
  offline: 'ERROR',
  gone: 'TERMINATED',
} as const

/** RunPod's REST API v2 over the machines. */
export const createRunpodHandler = (gpus: readonly RunpodGpu[], { machines }: HandlerDeps): Handler => {
  const problem = (status: number, title: string, detail: string): FakeReply => ({
    status,
    body: { title, status, detail },
  })
  const pod = (machine: Machine): Record<string, unknown> => {
    const { host, port } = machines.addressOf(machine)
    const isUp = machine.state === 'running'
    return {
      id: machine.id,
      name: machine.label,
      image: machine.image,
      args: '',
      disk: 20,
      ports: ['22/tcp'],
      env: machine.env,
      registry: null,
      status: STATUS[machine.state],
      actions: [],
      mounts: { persistent: { size: machine.diskGb, path: '/workspace' } },
      gpu: { id: machine.gpu, count: machine.gpuCount },
      cloud: 'SECURE',
      dataCenterId: 'EU-XX-1',
      cudaVersion: '12.8',
      ssh: {
        proxy: null,
        direct: isUp ? { host, port, username: 'root', command: `ssh root@${host} -p ${port}` } : null,
      },
      cost: machine.state === 'stopped' ? 0 : machine.usdPerHour,
      locked: false,
      runtime: null,
      createdAt: new Date(machine.startedMs).toISOString(),
      startedAt: isUp ? new Date(machine.startedMs).toISOString() : null,
      podMood: 'blue',
    }
  }

  const create = (body: Readonly<Record<string, unknown>>): FakeReply => {
    const wanted = (body['gpu'] ?? {}) as { id?: string; count?: number }
    const gpu = gpus.find(({ id }) => id === wanted.id)
    if (gpu === undefined || gpu.availability === 'NONE')
      return problem(400, 'Bad Request', 'There are no instances available with the requested specification')
    const mounts = (body['mounts'] ?? {}) as { persistent?: { size?: number } }
    const diskGb = mounts.persistent?.size ?? 0
    const machine = machines.make({
      provider: 'runpod',
      label: String(body['name']),
      image: String(body['image']),
      onStart: '',
      diskGb,
      gpu: gpu.id,
      gpuCount: wanted.count ?? 1,
      env: (body['env'] ?? {}) as Record<string, string>,
      usdPerHour: (gpu.usdPerHour ?? 0.44) * (wanted.count ?? 1),
      storageUsdPerHour: (diskGb * 0.2) / 730,
      isBid: false,
    })
    return { status: 201, body: pod(machine) }
  }

  const act = (machine: Machine, action: unknown): FakeReply => {
    const isAllowed =
      action === 'start'
        ? machine.state === 'stopped' || machine.state === 'exited'
        : action === 'stop' && (machine.state === 'running' || machine.state === 'loading')
    if (!isAllowed)
      return problem(409, 'Conflict', `the action is not valid for a pod that is ${STATUS[machine.state]}`)
    if (action === 'start') machines.start(machine)
    else machines.stop(machine)
    return { status: 200, body: pod(machine) }
  }

  const find = ({ url }: FakeRequest): Machine | undefined => {
    const id = /^\/v2\/pods\/([^/]+)/.exec(url.pathname)?.[1] ?? ''
    const found = machines.find(id)
    return found?.provider === 'runpod' && found.state !== 'gone' ? found : undefined
  }

  return {
    tooMany: problem(429, 'Too Many Requests', 'rate limit exceeded'),
    intervalsMs: {},
    kindOf: ({ method, url: { pathname }, body }) => {
      if (pathname === '/v2/catalog/gpus') return 'search'
      if (pathname === '/v2/pods') return method === 'POST' ? 'create' : 'list'
      if (/^\/v2\/pods\/[^/]+\/action$/.test(pathname)) return body['action'] === 'stop' ? 'stop' : 'start'
      if (!/^\/v2\/pods\/[^/]+$/.test(pathname)) return undefined
      return method === 'DELETE' ? 'destroy' : 'show'
    },
    accepted: (request) => {
      const machine = find(request)
      return { status: 200, body: machine === undefined ? {} : pod(machine) }
    },
    handle: (request) => {
      const { method, url, body } = request
      if (url.pathname === '/v2/catalog/gpus')
        return {
          status: 200,
          body: {
            gpus: gpus.map((gpu) => ({
              id: gpu.id,
              name: gpu.name,
              pool: null,
              manufacturer: 'NVIDIA',
              memory: gpu.memory ?? 24,
              secure: true,
              community: true,
              price: { secure: gpu.usdPerHour ?? 0.44, community: 0.31 },
              maxCount: { secure: 8, community: 4 },
              availability: gpu.availability ?? 'HIGH',
              cudaVersions: [{ version: '12.8', availability: 'HIGH' }],
            })),
          },
        }
      if (url.pathname === '/v2/pods' && method === 'POST') return create(body)
      if (url.pathname === '/v2/pods')
        return {
          status: 200,
          body: {
            pods: machines
              .all()
              .filter(({ provider }) => provider === 'runpod')
              .map(pod),
          },
        }
      const machine = find(request)
      if (machine === undefined) return problem(404, 'Not Found', 'pod not found')
      if (url.pathname.endsWith('/action')) return act(machine, body['action'])
      if (method === 'GET') return { status: 200, body: pod(machine) }
      machines.destroy(machine)
      return { status: 204, body: '' }
    },
  }
}
