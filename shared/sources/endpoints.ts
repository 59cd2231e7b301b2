/** Where the hubs are. `HF_ENDPOINT` and `CIVITAI_ENDPOINT` move them. */
export type Endpoints = { readonly hf: string; readonly civitai: string }

export const DEFAULT_ENDPOINTS: Endpoints = {
  hf: 'https://huggingface.co',
  civitai: 'https://civitai.com',
}

export type HubKind = keyof Endpoints

/** The hubs as the environment moves them, without a trailing slash. */
export const endpointsFrom = (environment: Readonly<Record<string, string | undefined>>): Endpoints => ({
  hf: (environment['HF_ENDPOINT'] || DEFAULT_ENDPOINTS.hf).replace(/\/+$/, ''),
  civitai: (environment['CIVITAI_ENDPOINT'] || DEFAULT_ENDPOINTS.civitai).replace(/\/+$/, ''),
})

/** The hosts of AGENT_ALLOW_HOSTS: `host` or `host:port`, comma-separated. */
export const allowHostsFrom = (
  environment: Readonly<Record<string, string | undefined>>,
): readonly string[] =>
  (environment['AGENT_ALLOW_HOSTS'] ?? '')
    .split(',')
    .map((host) => host.trim().toLowerCase())
    .filter(Boolean)

/**
 * True when the URL lies on the hub itself: the configured endpoint, or the hub's own home. Compared as scheme, host
 * and port together: a host name alone once let a token go to another port, and from https to http.
 */
export const isOnHub = (url: URL, kind: HubKind, endpoints: Endpoints): boolean =>
  url.origin === new URL(endpoints[kind]).origin || url.origin === new URL(DEFAULT_ENDPOINTS[kind]).origin
