import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { AgentError } from '../../../shared/contract/errors.ts'
import type { Send } from '../../../shared/providers/send-request.ts'
import type { FakeReply, FakeRequest, Handler } from './answers.ts'
import type { CallKind, Fault } from './faults.ts'
import { createFaultPicker } from './faults.ts'
import type { Ledger } from './ledger.ts'
import { createLedger } from './ledger.ts'
import type { Behaviour, Machine, Machines } from './machines.ts'
import { createMachines } from './machines.ts'
import type { RunpodGpu } from './runpod.ts'
import { createRunpodHandler } from './runpod.ts'
import type { VastOffer } from './vast.ts'
import { createVastHandler } from './vast.ts'

export const FAKE_KEY = 'fake-account-key-0123456789'

/** One call that arrived, and what it got. The body is kept as it came, secrets included: tests look for them here. */
export type SeenCall = {
  readonly provider: 'vast' | 'runpod'
  readonly kind: CallKind
  readonly status: number
  readonly path: string
  readonly body: unknown
}

/** Vast.ai and RunPod as they behave, with faults on demand and books of their own. */
export type FakeProviders = {
  readonly machines: Machines
  readonly ledger: Ledger
  readonly calls: readonly SeenCall[]
  /** Keys that are accepted, each for everything; an instance's own key is `instance-key-ID` and may not read. */
  fault(...faults: readonly Fault[]): void
  clearFaults(): void
  /** The API without a network, for a clock that is moved by hand. */
  readonly send: Send
}

export type FakeOptions = {
  readonly offers?: readonly VastOffer[]
  readonly gpus?: readonly RunpodGpu[]
  readonly behaviour?: Behaviour
  readonly onState?: (machine: Machine) => void
  /** The provider's clock, in milliseconds; the wall clock by default. */
  readonly nowMs?: () => number
  /** False: calls may come as close as they like. */
  readonly intervals?: boolean
}

type Answer = FakeReply | 'drop'

export const createFakeProviders = (options: FakeOptions = {}): FakeProviders => {
  const nowMs = options.nowMs ?? Date.now
  const ledger = createLedger(nowMs)
  const machines = createMachines({
    ledger,
    nowMs,
    behaviour: options.behaviour ?? {},
    onState: options.onState ?? (() => undefined),
  })
  const handlers = {
    vast: createVastHandler(options.offers ?? [{ id: 501 }], { machines }),
    runpod: createRunpodHandler(options.gpus ?? [{ id: 'NVIDIA GeForce RTX 4090', name: 'RTX 4090' }], {
      machines,
    }),
  }
  const picker = createFaultPicker()
  const calls: SeenCall[] = []
  const lastMs = new Map<string, number>()

  const isTooEarly = (provider: 'vast' | 'runpod', kind: CallKind): boolean => {
    if (options.intervals === false) return false
    const key = `${provider} ${kind}`
    const before = lastMs.get(key)
    lastMs.set(key, nowMs())
    return before !== undefined && nowMs() - before < (handlers[provider].intervalsMs[kind] ?? 0)
  }

  const answer = (request: FakeRequest, authorization: string | undefined): Answer => {
    const provider = request.url.pathname.startsWith('/v2/') ? 'runpod' : 'vast'
    const handler = handlers[provider]
    const kind = handler.kindOf(request)
    if (kind === undefined) return { status: 404, body: '<html>no such page</html>' }
    const decided = decide({ kind, handler, provider, request, authorization })
    const path = `${request.url.pathname}${request.url.search}`
    const status = decided === 'drop' ? 0 : decided.status
    calls.push({ provider, kind, status, path, body: request.body })
    return decided
  }

  const decide = (call: {
    kind: CallKind
    handler: Handler
    provider: 'vast' | 'runpod'
    request: FakeRequest
    authorization: string | undefined
  }): Answer => {
    const { kind, handler, request } = call
    if (isTooEarly(call.provider, kind)) return handler.tooMany
    const fault = picker.pick(kind)
    if (fault?.kind === 'answer') return { status: fault.status, body: fault.body ?? '' }
    if (fault?.kind === 'ignored') return handler.accepted(request)
    if (fault?.kind === 'garbage') return { status: 200, body: '<html>under maintenance</html>' }
    const key = call.authorization?.replace(/^Bearer /, '')
    const own = /^instance-key-(.+)$/.exec(key ?? '')?.[1]
    if (own !== undefined) {
      // What the documentation says of an instance's own key: it starts, stops and destroys that one instance.
      if (!request.url.pathname.includes(own) || kind === 'show')
        return { status: 401, body: { success: false, error: 'auth_error', msg: 'not permitted' } }
    } else if (key !== FAKE_KEY) return { status: 401, body: { error: 'auth_error', msg: 'Invalid API key' } }
    const reply = handler.handle(request)
    if (fault?.kind === 'drop') return 'drop'
    if (fault?.kind !== 'done-but') return reply
    const made = typeof reply.body === 'object' ? reply.body : {}
    return {
      status: fault.status,
      body: fault.body ?? { ...made, success: false, error: 'internal', msg: 'something went wrong' },
    }
  }

  return {
    machines,
    ledger,
    calls,
    fault: picker.add,
    clearFaults: picker.clear,
    send: ({ method, url, headers, body }) => {
      const request = { method, url: new URL(url), body: parse(body ?? '') }
      const decided = answer(request, headers['authorization'])
      return decided === 'drop'
        ? Promise.reject(new AgentError('provider_failed', 'the connection broke'))
        : Promise.resolve({ status: decided.status, headers: {}, text: textOf(decided) })
    },
  }
}

/** The same behind a loopback port, for real programs. */
export type ProviderServer = FakeProviders & {
  /** VAST_ENDPOINT and RUNPOD_ENDPOINT, and the keys. */
  readonly environment: Readonly<Record<string, string>>
  close(): Promise<void>
}

export const startProviders = async (
  options: FakeOptions & { readonly port?: number } = {},
): Promise<ProviderServer> => {
  const fake = createFakeProviders(options)
  const server = createServer((message, response) => {
    void readBody(message).then(async (text) => {
      const url = `http://${message.headers.host ?? ''}${message.url ?? ''}`
      try {
        const reply = await fake.send(
          {
            method: message.method as 'GET',
            url,
            headers: { authorization: message.headers.authorization ?? '' },
            body: text,
          },
          { signal: new AbortController().signal },
        )
        response.writeHead(reply.status, { 'content-type': 'application/json' }).end(reply.text)
      } catch {
        // The fault “drop”.
        response.destroy()
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    ...fake,
    environment: {
      VAST_ENDPOINT: endpoint,
      RUNPOD_ENDPOINT: endpoint,
      VAST_API_KEY: FAKE_KEY,
      RUNPOD_API_KEY: FAKE_KEY,
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const readBody = async (message: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

const textOf = ({ body }: FakeReply): string => (typeof body === 'string' ? body : JSON.stringify(body))

const parse = (text: string): Record<string, unknown> => {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    // A call without a body.
    return {}
  }
}
