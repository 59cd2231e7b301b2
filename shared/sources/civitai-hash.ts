import { z } from 'zod'
import { headersFor } from './authorization.ts'
import type { SourceReference } from './parse-source.ts'
import type { ResolveContext } from './resolved-source.ts'

/** Civitai's own `sizeKB` is rounded, so it is not read. Hashes come in upper case. */
const Version = z.object({
  files: z.array(
    z.object({
      id: z.number().optional(),
      name: z.string(),
      primary: z.boolean().optional(),
      hashes: z.object({ SHA256: z.string().optional() }).optional(),
    }),
  ),
})

/**
 * The sha256 that Civitai publishes for the file it would send; null when it cannot be told which of a version's files
 * that is, or when the description cannot be had: the file is then checked by size and content alone.
 */
export const civitaiHash = async (
  reference: Extract<SourceReference, { kind: 'civitai' }>,
  fileName: string | null,
  context: ResolveContext & { readonly anonymous: boolean },
): Promise<string | null> => {
  const url = new URL(`${context.endpoints.civitai}/api/v1/model-versions/${reference.versionId}`)
  const headers = headersFor(url, { kind: 'civitai', anonymous: context.anonymous }, context)
  try {
    const reply = await context.fetch({ url: url.href, headers }, context)
    const chunks: Uint8Array[] = []
    for await (const chunk of reply.body) chunks.push(chunk)
    if (reply.status !== 200) return null
    const { files } = Version.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
    const query = new URLSearchParams(reference.query)
    const wanted = query.get('fileId')
    const named = files.filter((file) => file.name === fileName)
    const file =
      files.find((one) => wanted !== null && one.id === Number(wanted)) ??
      (named.length === 1 ? named[0] : undefined) ??
      (files.length === 1 ? files[0] : undefined) ??
      (reference.query === '' ? files.find((one) => one.primary) : undefined)
    const sha256 = file?.hashes?.SHA256?.toLowerCase() ?? ''
    return /^[0-9a-f]{64}$/.test(sha256) ? sha256 : null
  } catch {
    context.signal.throwIfAborted()
    return null
  }
}
