/** One GET, or a POST where there is a body. The caller decides about redirects, tokens and retries; a Fetcher only carries it out. */
export type FetchRequest = {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** A question that is asked by POST and changes nothing: it is sent again where a kept connection broke. */
  readonly body?: string
}

export type FetchReply = {
  readonly status: number
  /** Names in lower case; repeated headers joined with “, ”. */
  readonly headers: Readonly<Record<string, string>>
  /** The bytes as they came: never decoded. Throws when the connection breaks, is silent too long, or is aborted. */
  readonly body: AsyncIterable<Uint8Array>
  /**
   * The same bytes without a copy: the next piece of the body, in a buffer that is used again at the next call; undefined
   * at the end. Whoever writes pieces elsewhere lets each write finish before the next call, and before `discard`.
   */
  read(): Promise<Uint8Array | undefined>
  /** Lets go of the connection when the rest of the body is not wanted. */
  discard(): void
}

/**
 * Sends one request over HTTP/1.1, follows no redirect, and refuses addresses that the address policy forbids at the
 * moment it connects, so that a name cannot be pointed elsewhere after it was looked up.
 * @throws AgentError forbidden_address, source_unavailable; the signal's reason after an abort
 */
export type Fetcher = (
  request: FetchRequest,
  context: { readonly signal: AbortSignal },
) => Promise<FetchReply>

const TEXT_LIMIT = 64 * 2 ** 10

/** The first 64 KiB of a reply as text: enough for the message of an error. Lets go of the rest. */
export const replyText = async (reply: FetchReply): Promise<string> => {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of reply.body) {
      chunks.push(chunk)
      bytes += chunk.byteLength
      if (bytes >= TEXT_LIMIT) break
    }
  } catch {
    // The status already says what failed; a torn message adds nothing.
  } finally {
    reply.discard()
  }
  return Buffer.concat(chunks).subarray(0, TEXT_LIMIT).toString('utf8')
}
