import { AgentError } from '../contract/errors.ts'
import type { Call } from './ask-provider.ts'
import { createAsk, isJsonObject, isKeyRefused, readReply, replyError } from './ask-provider.ts'
import { goneInstance } from './gone-instance.ts'
import type { CallContext, Created, Instance, Provider, ProviderDeps, Rental } from './provider.ts'
import type { ApiReply } from './send-request.ts'
import {
  toInstance,
  toOffer,
  VastCreated,
  VastInstance,
  VastOffers,
  VastPage,
  VastShown,
} from './vast-answers.ts'

/** The minimum intervals that Vast.ai publishes; whoever comes earlier gets 429 (and waits longer: createAsk). */
const EVERY_MS = { search: 1_000, create: 4_500, show: 2_000, list: 2_000, change: 1_000, destroy: 3_000 }
const PAGE = 25
const MOST_PAGES = 40
/** What Vast.ai takes; more is cut off or refused there. */
const LIMITS = { env: 32_768, onStart: 4_096, label: 256 }

/** Vast.ai's REST API, as its documentation of 2026-08 has it. */
export const createVast = (deps: ProviderDeps): Provider => {
  const ask = createAsk('vast', deps)

  const expect200 = (call: Call, reply: ApiReply): ApiReply => {
    if (reply.status === 200) return reply
    throw replyError('vast', { call, reply })
  }
  const change = (id: string, body: unknown): Call => ({
    method: 'PUT',
    path: `/api/v0/instances/${encodeURIComponent(id)}/`,
    body,
    kind: 'change',
    everyMs: EVERY_MS.change,
    repeat: 'repeatable',
  })

  const show = async (id: string, context: CallContext): Promise<Instance> => {
    const call: Call = {
      method: 'GET',
      path: `/api/v0/instances/${encodeURIComponent(id)}/?owner=me`,
      kind: 'show',
      everyMs: EVERY_MS.show,
      repeat: 'repeatable',
    }
    const reply = await ask(call, context)
    // Gone is what the API says; a 404 of something that stands before it says nothing.
    if (reply.status === 404 && isJsonObject(reply)) return goneInstance(id, 'vast')
    const { instances } = readReply(VastShown, { provider: 'vast', call, reply: expect200(call, reply) })
    if (typeof instances !== 'object' || instances === null || Array.isArray(instances))
      return goneInstance(id, 'vast')
    const read = VastInstance.safeParse(instances)
    if (read.success) return toInstance(read.data)
    throw new AgentError('provider_failed', `vast: the description of instance ${id} cannot be read`, {
      cause: read.error,
    })
  }

  /** What is not there any more needs no change. */
  const send = async (call: Call, context: CallContext): Promise<void> => {
    const reply = await ask(call, context)
    if (reply.status === 404 && isJsonObject(reply)) return
    const { success } = readReply(VastCreated, { provider: 'vast', call, reply: expect200(call, reply) })
    if (success === false) throw replyError('vast', { call, reply })
  }

  return {
    name: 'vast',
    stopMeans: 'its disk is kept and goes on costing; a start may have to wait until the GPU is free again',
    show,
    stop: (id, context) => send(change(id, { state: 'stopped' }), context),
    start: (id, context) => send(change(id, { state: 'running' }), context),
    destroy: (id, context) =>
      send(
        {
          method: 'DELETE',
          path: `/api/v0/instances/${encodeURIComponent(id)}/`,
          body: {},
          kind: 'destroy',
          everyMs: EVERY_MS.destroy,
          repeat: 'repeatable',
        },
        context,
      ),

    checkKey: async (id, context) => {
      const read = await show(id, context).then(
        () => 'accepted' as const,
        (error: unknown) => {
          if (error instanceof AgentError && error.code === 'provider_key') return 'refused' as const
          throw error
        },
      )
      if (!context.write) return { read, write: 'untried' }
      const call = change(id, { state: 'running' })
      const reply = await ask(call, context)
      if (isKeyRefused(reply)) return { read, write: 'refused' }
      expect200(call, reply)
      return { read, write: 'accepted' }
    },

    search: async (query, context) => {
      const call: Call = {
        method: 'POST',
        path: '/api/v0/bundles/',
        body: {
          ...(query.gpus.length === 0 ? {} : { gpu_name: { in: query.gpus.map(vastGpuName) } }),
          num_gpus: { eq: query.gpuCount },
          disk_space: { gte: gigabytes(query.diskBytes) },
          // One port of its own is what ssh needs for forwards that do not pass Vast.ai's proxy.
          direct_port_count: { gte: 1 },
          rentable: { eq: true },
          rented: { eq: false },
          verified: { eq: true },
          type: query.interruptible ? 'bid' : 'ondemand',
          order: [['dph_total', 'asc']],
          allocated_storage: gigabytes(query.diskBytes),
          limit: 64,
        },
        kind: 'search',
        everyMs: EVERY_MS.search,
        repeat: 'repeatable',
      }
      const reply = expect200(call, await ask(call, context))
      return readReply(VastOffers, { provider: 'vast', call, reply }).offers.map(toOffer)
    },

    create: (rental, context) => create(rental, context),

    list: async (context) => {
      const found: Instance[] = []
      let after: string | undefined
      for (let page = 0; page < MOST_PAGES; page += 1) {
        const query = new URLSearchParams({ limit: String(PAGE), ...(after ? { after_token: after } : {}) })
        const call: Call = {
          method: 'GET',
          path: `/api/v1/instances/?${query.toString()}`,
          kind: 'list',
          everyMs: EVERY_MS.list,
          repeat: 'repeatable',
        }
        const reply = expect200(call, await ask(call, context))
        const read = readReply(VastPage, { provider: 'vast', call, reply })
        found.push(...read.instances.map(toInstance))
        if (!read.next_token) return found
        after = String(read.next_token)
      }
      throw new AgentError('provider_failed', `vast: the list of instances does not end`)
    },
  }

  async function create(rental: Rental, context: CallContext): Promise<Created> {
    checkLimits(rental)
    const call: Call = {
      method: 'PUT',
      path: `/api/v0/asks/${encodeURIComponent(rental.offer.id)}/`,
      body: {
        client_id: 'me',
        image: rental.image,
        label: rental.label,
        disk: gigabytes(rental.diskBytes),
        // Its own sshd on a port of its own; replaces the image's entrypoint, so the agent starts from `onstart`.
        runtype: 'ssh_direct',
        target_state: 'running',
        cancel_unavail: true,
        // An object, though the published description says string.
        env: rental.env,
        onstart: rental.onStart,
        ...(rental.bidUsdPerHour === null ? {} : { price: rental.bidUsdPerHour }),
      },
      kind: 'create',
      everyMs: EVERY_MS.create,
      repeat: 'once',
      secrets: Object.values(rental.env),
    }
    const reply = await ask(call, context)
    const body = VastCreated.safeParse(jsonOf(reply.text))
    // An error may name a contract that was made nevertheless, and that bills.
    const contract = body.success && body.data.new_contract ? String(body.data.new_contract) : null
    if (reply.status === 200 && contract !== null && body.data?.success !== false)
      return { state: 'created', id: contract }
    const error = replyError('vast', { call, reply })
    if (contract === null && (reply.status < 400 || reply.status >= 500)) throw error
    return { state: 'failed', left: contract, error }
  }
}

/** @throws AgentError usage */
const checkLimits = ({ env, onStart, label }: Rental): void => {
  const envBytes = Buffer.byteLength(JSON.stringify(env))
  const over = [
    { what: 'the environment', bytes: envBytes, most: LIMITS.env },
    { what: 'the start script', bytes: Buffer.byteLength(onStart), most: LIMITS.onStart },
    { what: 'the label', bytes: Buffer.byteLength(label), most: LIMITS.label },
  ].find(({ bytes, most }) => bytes > most)
  if (over !== undefined)
    throw new AgentError(
      'usage',
      `${over.what} has ${over.bytes} bytes, and Vast.ai takes ${over.most} at most`,
      {
        hint: 'Declare fewer or shorter secrets; nothing was rented.',
      },
    )
}

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    // The status says what failed; there is no contract in plain text.
    return undefined
  }
}

const gigabytes = (bytes: number): number => Math.max(8, Math.ceil(bytes / 1e9))

/** `RTX 4090`, as its search knows them: without the maker, with spaces. */
const vastGpuName = (name: string): string =>
  name
    .replace(/^nvidia\s+/i, '')
    .replace(/^geforce\s+/i, '')
    .replaceAll('_', ' ')
