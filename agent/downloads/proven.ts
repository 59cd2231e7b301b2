import { formatSource, parseSource } from '../../shared/sources/parse-source.ts'
import type { Endpoints } from '../../shared/sources/endpoints.ts'
import type { PlannedFile } from './planned-file.ts'
import type { VerifiedFile, VerifiedFiles } from './verified-files.ts'

/**
 * The record of this very file, when it was verified before and is unchanged on disk: with the manifest's hash and size
 * where it names them, else from one of the manifest's sources. One look, no reading.
 */
export const findProven = async (
  file: PlannedFile,
  context: { readonly verified: VerifiedFiles; readonly resolve: { readonly endpoints: Endpoints } },
): Promise<VerifiedFile | undefined> => {
  const found = await context.verified.find(file.path)
  if (found === undefined) return undefined
  if (file.sizeBytes !== null && file.sizeBytes !== found.sizeBytes) return undefined
  if (file.sha256 !== null) return file.sha256 === found.sha256 ? found : undefined
  const known = file.from.some((reference) => canonical(reference, context.resolve) === found.source)
  return known ? found : undefined
}

const canonical = (reference: string, context: { readonly endpoints: Endpoints }): string | undefined => {
  try {
    return formatSource(parseSource(reference, context))
  } catch {
    // Not a source: nothing can have come from it.
    return undefined
  }
}
