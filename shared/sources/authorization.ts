import { type Endpoints, type HubKind, isOnHub } from './endpoints.ts'
import type { SourceReference } from './parse-source.ts'

/** Civitai takes any agent whose name holds “edge”, “opera”, “chrome”… for a browser and sends it a login page. */
const USER_AGENT = 'gpu-agent'

/**
 * The headers of any request for a source: the token goes to the hub's exact origin alone. Anywhere else it would be
 * a leak, and it breaks signed addresses: their hosts accept one kind of authorization only.
 */
export const headersFor = (
  url: URL,
  source: { readonly kind: SourceReference['kind']; readonly anonymous: boolean },
  context: { readonly endpoints: Endpoints; readonly tokenFor: (kind: HubKind) => string | undefined },
): Record<string, string> => {
  const headers: Record<string, string> = { 'accept-encoding': 'identity', 'user-agent': USER_AGENT }
  if (source.kind === 'https' || source.anonymous || !isOnHub(url, source.kind, context.endpoints))
    return headers
  const token = context.tokenFor(source.kind)
  return token ? { ...headers, authorization: `Bearer ${token}` } : headers
}
