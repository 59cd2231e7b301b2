import { z } from 'zod'
import type { Fetcher } from '../../shared/sources/fetcher.ts'
import { replyText } from '../../shared/sources/fetcher.ts'

/** ComfyUI’s registry of packs; COMFY_REGISTRY_ENDPOINT moves it. */
export const registryEndpoint = (environment: Readonly<Record<string, string | undefined>>): string =>
  (environment['COMFY_REGISTRY_ENDPOINT'] || 'https://api.comfy.org').replace(/\/+$/, '')

const Pack = z.object({ id: z.string(), repository: z.string() })
export type RegistryPack = z.infer<typeof Pack>

/** What is asked of the registry: undefined where it knows nothing, or cannot be asked. */
export const askRegistry = (context: {
  readonly endpoint: string
  readonly fetch: Fetcher
  readonly signal: AbortSignal
}) => {
  const ask = async (path: string): Promise<RegistryPack | undefined> => {
    try {
      const reply = await context.fetch(
        { url: `${context.endpoint}${path}`, headers: { accept: 'application/json' } },
        context,
      )
      const text = await replyText(reply)
      return reply.status === 200 ? Pack.safeParse(JSON.parse(text)).data : undefined
    } catch {
      // Without the registry the manifest says what is missing, as it does where the registry knows nothing.
      context.signal.throwIfAborted()
      return undefined
    }
  }
  return {
    /** A pack by its id; ids are lower case. */
    pack: (id: string) => ask(`/nodes/${encodeURIComponent(id.toLowerCase())}`),
    /** The pack that brings a node class. */
    packOfNode: (name: string) => ask(`/comfy-nodes/${encodeURIComponent(name)}/node`),
  }
}
