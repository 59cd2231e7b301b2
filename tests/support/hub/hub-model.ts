import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Content } from './content.ts'
import type { Fault, FaultAction, Place } from './faults.ts'

/** A file of the fake hub. */
export type HubFile = {
  readonly repo: string
  readonly path: string
  readonly sizeBytes?: number
  readonly seed?: string
  /** Exactly this text instead of made-up bytes. */
  readonly text?: string
  /** Needs a token whose account has accepted the terms. */
  readonly gated?: boolean
  /** Lies on the hub itself and has a git hash only, as small files do. */
  readonly small?: boolean
  /** False: the hub publishes neither hash nor size of it. */
  readonly published?: boolean
  /** The mirror publishes the hash as well. */
  readonly mirrorPublishes?: boolean
  /** Its id as a version on Civitai. */
  readonly civitaiVersion?: number
  /** The hub's own ETags are weak. */
  readonly weakEtag?: boolean
  /** Life of a signed address; an hour by default. */
  readonly signedSeconds?: number
  readonly faults?: Fault[]
}

export type HubRequest = {
  readonly at: Place
  readonly path: string
  readonly range: string | null
  readonly ifRange: string | null
  readonly authorization: string | null
  readonly cookie: string | null
  readonly userAgent: string
  status: number
  /** Bytes of the body that went out. */
  sentBytes: number
}

export type ServedFile = HubFile & {
  readonly content: Content
  readonly faults: Fault[]
  readonly pick: (at: Place) => FaultAction | undefined
  /** How often each signed address was used. */
  readonly used: Map<string, number>
}

export type HubOptions = {
  readonly files: readonly HubFile[]
  readonly https?: boolean
  /** Tokens the hubs accept, and the one whose account accepted every gate. */
  readonly tokens?: readonly string[]
  readonly acceptedTokens?: readonly string[]
  /** Questions of the hub's API that are not known, as with some mirrors: `revision`, `auth-check`. */
  readonly unknownQuestions?: readonly string[]
  readonly port?: number
}

export type HubState = {
  readonly files: readonly ServedFile[]
  readonly tokens: readonly string[]
  readonly acceptedTokens: readonly string[]
  readonly unknownQuestions: readonly string[]
  readonly urls: { hub: string; cdn: string; mirror: string; civitai: string }
  nextId: number
}

export const GOOD_TOKEN = 'hf_goodgoodgoodgoodgoodgoodgood'
/** Valid, but its account has accepted no gate. */
export const STRANGER_TOKEN = 'hf_strangerstrangerstranger'
export const COMMIT = '0123456789abcdef0123456789abcdef01234567'

export type Exchange = {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly record: HubRequest
  readonly state: HubState
  readonly at: Place
}
