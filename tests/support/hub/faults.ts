/** Which server a request arrives at. */
export type Place = 'hub' | 'cdn' | 'mirror' | 'civitai'

/** One thing that goes wrong with one file at one place: `times` requests long, or for ever. */
export type Fault = {
  readonly at: Place
  readonly times?: number
  /** Let this many requests pass first. */
  readonly after?: number
  readonly does: FaultAction
}

export type FaultAction =
  /** Answers this instead. */
  | {
      readonly kind: 'answer'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }
  /** Breaks the connection after this many bytes of the body. */
  | { readonly kind: 'drop'; readonly afterBytes: number }
  /** Sends this many bytes of the body, then nothing more, and keeps the connection open. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Sends the whole file with 200 whatever range was asked for. */
  | { readonly kind: 'ignore-range' }
  /** Changes one byte of every body. */
  | { readonly kind: 'corrupt' }
  /** Sends other bytes of the same length: another file under this name. */
  | { readonly kind: 'other-file' }
  | { readonly kind: 'slow'; readonly bytesPerSecond: number }
  /** Says and sends a range that starts this many bytes later than asked. */
  | { readonly kind: 'shift-range'; readonly byBytes: number }
  /** Answers with fewer bytes than asked, correctly labelled. */
  | { readonly kind: 'short-range'; readonly bytes: number }
  /** Sends more bytes than it said, chunked. */
  | { readonly kind: 'overlong'; readonly byBytes: number }
  /** Says another total size. */
  | { readonly kind: 'other-total'; readonly sizeBytes: number }
  /** Leaves Content-Range out of a 206. */
  | { readonly kind: 'no-content-range' }
  /** Does not say how large the whole file is. */
  | { readonly kind: 'unknown-total' }
  /** Sends a chunked body without a length, and ends it after this many bytes without the last chunk. */
  | { readonly kind: 'torn-chunks'; readonly afterBytes: number }
  | { readonly kind: 'encode'; readonly encoding: string }
  /** A signed address stops working after this many requests (cdn); `times`: only the first so many addresses. */
  | { readonly kind: 'expire'; readonly afterRequests: number }

/** Takes the first fault of this place whose turn it is, and counts it. */
export const createFaultPicker = (faults: readonly Fault[]) => {
  const seen = new Map<Fault, number>()
  return (at: Place): FaultAction | undefined => {
    for (const fault of faults) {
      if (fault.at !== at || fault.does.kind === 'expire') continue
      const count = (seen.get(fault) ?? 0) + 1
      const first = (fault.after ?? 0) + 1
      if (count >= first + (fault.times ?? Infinity)) continue
      seen.set(fault, count)
      if (count >= first) return fault.does
    }
    return undefined
  }
}
