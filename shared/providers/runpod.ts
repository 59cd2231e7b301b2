import { AgentError } from '../contract/errors.ts'
import type { Call } from './ask-provider.ts'
import { createAsk, isJsonObject, isKeyRefused, readReply, replyError } from './ask-provider.ts'
import { isSameGpu } from './gpu-name.ts'
import type { CallContext, Created, Instance, Provider, ProviderDeps, Rental } from './provider.ts'
import { RunpodGpus, RunpodPod, RunpodPods, toInstance, toOffers } from './runpod-answers.ts'
import type { ApiReply } from './send-request.ts'
import { goneInstance } from './gone-instance.ts'

/** RunPod publishes no intervals; one call a second of a kind stays far below what it limits. */
const EVERY_MS = 1_000
/** Kept over a stop; everything else on the disk is wiped by one. */
const VOLUME_PATH = '/workspace'
/** The container's own disk: the image and what is installed outside the volume. */
const CONTAINER_GB = 20
const MOST_VARIABLES = 50

/** RunPod's REST API v2 (v1 was retired on 2026-11-15). */
export const createRunpod = (deps: ProviderDeps): Provider => {
  const ask = createAsk('runpod', deps)
  const call = (
    method: Call['method'],
    path: string,
    more: Partial<Pick<Call, 'body' | 'repeat' | 'secrets'>> = {},
  ): Call => ({ method, path, kind: method, everyMs: EVERY_MS, repeat: 'repeatable', ...more })
  const podPath = (id: string): string => `/v2/pods/${encodeURIComponent(id)}`
  const isGone = (reply: ApiReply): boolean => reply.status === 404 && isJsonObject(reply)
  const expectSuccess = (asked: Call, reply: ApiReply): ApiReply => {
    if (reply.status >= 200 && reply.status < 300) return reply
    throw replyError('runpod', { call: asked, reply })
  }

  const show = async (id: string, context: CallContext): Promise<Instance> => {
    const asked = call('GET', podPath(id))
    const reply = await ask(asked, context)
    if (isGone(reply)) return goneInstance(id, 'runpod')
    expectSuccess(asked, reply)
    return toInstance(readReply(RunpodPod, { provider: 'runpod', call: asked, reply }))
  }

  /** 409 says that the pod is past this already, or not there yet; reading it back tells which. */
  const act = async (id: string, action: 'start' | 'stop', context: CallContext): Promise<void> => {
    const asked = call('POST', `${podPath(id)}/action`, { body: { action } })
    const reply = await ask(asked, context)
    if (!isGone(reply) && reply.status !== 409) expectSuccess(asked, reply)
  }

  return {
    name: 'runpod',
    stopMeans: `${VOLUME_PATH} is kept and goes on costing, everything else on its disk is wiped; a start may find no GPU`,
    show,
    stop: (id, context) => act(id, 'stop', context),
    start: (id, context) => act(id, 'start', context),
    destroy: async (id, context) => {
      const asked = call('DELETE', podPath(id))
      const reply = await ask(asked, context)
      if (!isGone(reply)) expectSuccess(asked, reply)
    },

    checkKey: async (id, context) => {
      const asked = call('GET', podPath(id))
      const shown = await ask(asked, context)
      const read = isKeyRefused(shown) ? 'refused' : 'accepted'
      if (read === 'accepted') expectSuccess(asked, shown)
      if (!context.write) return { read, write: 'untried' }
      // Starting what runs is refused with 409, after the key was looked at.
      const tried = call('POST', `${podPath(id)}/action`, { body: { action: 'start' } })
      const reply = await ask(tried, context)
      if (isKeyRefused(reply)) return { read, write: 'refused' }
      if (reply.status !== 409) expectSuccess(tried, reply)
      return { read, write: 'accepted' }
    },

    search: async (query, context) => {
      if (query.interruptible)
        throw new AgentError('not_supported', 'RunPod’s API rents no interruptible pods', {
          hint: 'Take interruptible out, or use --provider vast.',
        })
      const wanted = new URLSearchParams({
        include: 'AVAILABILITY',
        product: 'POD',
        cloud: 'SECURE',
        count: String(query.gpuCount),
      })
      const asked = call('GET', `/v2/catalog/gpus?${wanted.toString()}`)
      const reply = expectSuccess(asked, await ask(asked, context))
      const { gpus } = readReply(RunpodGpus, { provider: 'runpod', call: asked, reply })
      return toOffers(gpus, query).filter(
        ({ gpu, id }) =>
          query.gpus.length === 0 || query.gpus.some((name) => isSameGpu(name, gpu) || isSameGpu(name, id)),
      )
    },

    create: async (rental, context): Promise<Created> => {
      checkLimits(rental)
      const asked = call('POST', '/v2/pods', {
        body: {
          name: rental.label,
          image: rental.image,
          cloud: 'SECURE',
          gpu: { id: rental.offer.id, count: rental.offer.gpuCount },
          disk: CONTAINER_GB,
          mounts: { persistent: { size: Math.ceil(rental.diskBytes / 1e9), path: VOLUME_PATH } },
          ports: ['22/tcp'],
          env: rental.env,
          startSsh: true,
        },
        repeat: 'once',
        secrets: Object.values(rental.env),
      })
      const reply = await ask(asked, context)
      const pod = RunpodPod.safeParse(jsonOf(reply.text))
      if (reply.status === 201 && pod.success) return { state: 'created', id: pod.data.id }
      const error = replyError('runpod', { call: asked, reply })
      if (!pod.success && (reply.status < 400 || reply.status >= 500)) throw error
      return { state: 'failed', left: pod.success ? pod.data.id : null, error }
    },

    list: async (context) => {
      const asked = call('GET', '/v2/pods')
      const reply = expectSuccess(asked, await ask(asked, context))
      return readReply(RunpodPods, { provider: 'runpod', call: asked, reply }).pods.map(toInstance)
    },
  }
}

/** @throws AgentError usage */
const checkLimits = ({ env }: Rental): void => {
  const count = Object.keys(env).length
  if (count > MOST_VARIABLES)
    throw new AgentError('usage', `${count} variables are declared, and RunPod takes ${MOST_VARIABLES}`, {
      hint: 'Declare fewer secrets; nothing was rented.',
    })
}

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    // The status says what failed.
    return undefined
  }
}
