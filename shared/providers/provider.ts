import type { AgentError } from '../contract/errors.ts'
import type { Send } from './send-request.ts'

/** Who rents machines out. `command`: nobody that is known here; the manifest says how the box is stopped. */
export type ProviderName = 'vast' | 'runpod' | 'command'

/**
 * What an instance is, in one word for every provider.
 * `loading`: made, not usable yet; `stopped`: its GPU is given back, its disk may go on costing; `failed`: it will not
 * come up by itself and may go on costing; `gone`: the provider has seen it destroyed; `unknown`: it does not say.
 */
export type InstanceState = 'loading' | 'running' | 'stopping' | 'stopped' | 'failed' | 'gone' | 'unknown'

/** One rented machine, as its provider describes it now. Holds no secret: its environment is never read. */
export type Instance = {
  readonly id: string
  readonly provider: ProviderName
  readonly label: string | null
  readonly state: InstanceState
  /** The provider's own words about the state, for people. */
  readonly message: string | null
  readonly gpu: string | null
  readonly gpuCount: number | null
  /** US dollars an hour as things are: everything while it runs, storage alone while it is stopped. Null: not told. */
  readonly usdPerHour: number | null
  /** When it was made or last started, ISO 8601. */
  readonly since: string | null
  /** Where its sshd listens; null until it is told. It changes when the instance is started again. */
  readonly ssh: { readonly host: string; readonly port: number; readonly user: string } | null
}

/** A machine that could be rented. */
export type Offer = {
  readonly id: string
  readonly provider: ProviderName
  readonly gpu: string
  readonly gpuCount: number
  /** Memory of one GPU. */
  readonly vramBytes: number | null
  /** US dollars an hour with the disk that was asked for. */
  readonly usdPerHour: number
  readonly diskBytes: number | null
  readonly driver: string | null
  /** Highest CUDA version that its driver runs, `12.8`. */
  readonly cuda: string | null
  readonly computeCapability: string | null
  readonly downBytesPerSecond: number | null
  /** US dollars for 10^9 bytes that it downloads. */
  readonly usdPerGbDown: number | null
  /** 0 to 1. */
  readonly reliability: number | null
  readonly location: string | null
}

/** What a search asks the provider; what it cannot ask is sorted out afterwards. */
export type OfferQuery = {
  /** Acceptable GPUs, in the words of people: `RTX 4090`. Empty: any. */
  readonly gpus: readonly string[]
  readonly gpuCount: number
  readonly diskBytes: number
  readonly interruptible: boolean
}

/** What is rented: the machine is the offer's. */
export type Rental = {
  readonly offer: Offer
  /** Its mark at the provider: unique, so that what was made can be found again whatever the create call answered. */
  readonly label: string
  readonly image: string
  readonly diskBytes: number
  readonly env: Readonly<Record<string, string>>
  /** Shell text that runs at each start of the machine, where the provider knows such a thing. */
  readonly onStart: string
  /** US dollars an hour bid for an interruptible machine; null for one that is not. */
  readonly bidUsdPerHour: number | null
}

/** `failed` may have left a machine nevertheless: `left` is its id where the provider told it; the label finds it too. */
export type Created =
  | { readonly state: 'created'; readonly id: string }
  | { readonly state: 'failed'; readonly left: string | null; readonly error: AgentError }

/** What a key may do with one instance. A key of the instance itself is often refused reading and may still stop it. */
export type KeyCheck = {
  readonly read: 'accepted' | 'refused'
  readonly write: 'accepted' | 'refused' | 'untried'
}

export type CallContext = { readonly signal: AbortSignal }

/** What a box needs of its provider for itself. Every method throws provider_key or provider_failed. */
export type InstanceControl = {
  readonly name: ProviderName
  /** The instance as it is now; `gone` only where the provider says that there is none. */
  show(id: string, context: CallContext): Promise<Instance>
  /** Asks for the stop. Accepted is not done: read it back (see confirm.ts). */
  stop(id: string, context: CallContext): Promise<void>
  /** Proves the key; with `write` by a write that changes nothing: the start of what runs already. */
  checkKey(id: string, context: CallContext & { readonly write: boolean }): Promise<KeyCheck>
}

/** A provider that rents machines. Every method throws provider_key or provider_failed. */
export type Provider = InstanceControl & {
  /** What a stop leaves and costs, in one sentence. */
  readonly stopMeans: string
  search(query: OfferQuery, context: CallContext): Promise<readonly Offer[]>
  /**
   * Never called twice for one label: what it answers is not always what it did. Where it throws provider_failed the
   * answer was lost or the provider broke, and it may have made something.
   */
  create(rental: Rental, context: CallContext): Promise<Created>
  start(id: string, context: CallContext): Promise<void>
  destroy(id: string, context: CallContext): Promise<void>
  /** Everything the account has rented, stopped instances too. */
  list(context: CallContext): Promise<readonly Instance[]>
}

export type ProviderDeps = {
  readonly send: Send
  readonly clock: ProviderClock
  /** The base address, without a trailing slash. */
  readonly endpoint: string
  /** Asked at each call, so that a key that is set later counts. It goes into the Authorization header alone. */
  readonly key: () => string | undefined
}

/** The part of a clock that providers need. */
export type ProviderClock = {
  now(): Date
  monotonicMs(): number
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}
