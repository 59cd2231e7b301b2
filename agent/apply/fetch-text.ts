import { AgentError } from '../../shared/contract/errors.ts'
import type { Fetcher } from '../../shared/sources/fetcher.ts'

/**
 * A small text from an https address: no redirects, 4 MiB at most.
 * @throws AgentError source_unavailable, source_refused, forbidden_address
 */
export const fetchText = async (
  url: string,
  { fetch, signal }: { readonly fetch: Fetcher; readonly signal: AbortSignal },
): Promise<string> => {
  const reply = await fetch({ url, headers: { 'accept-encoding': 'identity' } }, { signal })
  try {
    if (reply.status !== 200)
      throw new AgentError('source_refused', `${url} answers ${reply.status}, not 200`)
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of reply.body) {
      bytes += chunk.byteLength
      if (bytes > MAX_BYTES)
        throw new AgentError('source_refused', `${url} is larger than ${MAX_BYTES} bytes`)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks).toString('utf8')
  } finally {
    reply.discard()
  }
}

const MAX_BYTES = 4 * 2 ** 20
