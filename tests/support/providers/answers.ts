import type { CallKind } from './faults.ts'
import type { Machines } from './machines.ts'

/** A call as it came in. */
export type FakeRequest = {
  readonly method: string
  readonly url: URL
  readonly body: Readonly<Record<string, unknown>>
}

export type FakeReply = { readonly status: number; readonly body: unknown }

/** Carries a call out. `undefined`: this provider has no such path. */
export type Handler = {
  /** What the call is about; undefined for a path that it does not have. */
  kindOf(request: FakeRequest): CallKind | undefined
  handle(request: FakeRequest): FakeReply
  /** What a call that is accepted and not carried out answers. */
  accepted(request: FakeRequest): FakeReply
  /** The text of a 429, and how close calls of one kind may come. */
  readonly tooMany: FakeReply
  readonly intervalsMs: Readonly<Partial<Record<CallKind, number>>>
}

export type HandlerDeps = { readonly machines: Machines }
