import { resolveSource } from '../../shared/sources/resolve-source.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import type { FileContext } from './file-context.ts'
import type { Chosen } from './fill-part.ts'
import { judgeSource } from '../../shared/sources/judge-source.ts'
import type { PlannedFile } from './planned-file.ts'

/**
 * The other sources of a file that ranges may come from at the same time: with the same size, under a hash that proves
 * the whole at the end, and on a host of their own; a mirror that only leads to the primary's content host is none.
 */
export const findPartners = async (
  file: PlannedFile,
  context: FileContext & Chosen & { readonly primary: ResolvedSource | undefined },
): Promise<readonly Chosen[]> => {
  if (file.race !== true || context.expected.sha256 === null || context.source.sizeBytes === null) return []
  const found = await Promise.all(
    file.from
      .filter((reference) => reference !== context.reference)
      .map((one) => tryOne(one, { ...context, file })),
  )
  const hosts = new Set([hostOf(context.source)])
  return found.flatMap((chosen) => {
    if (chosen === undefined || hosts.has(hostOf(chosen.source))) return []
    hosts.add(hostOf(chosen.source))
    return [chosen]
  })
}

const hostOf = (source: ResolvedSource): string => new URL(source.dataUrl).host

const tryOne = async (
  reference: string,
  context: FileContext &
    Chosen & { readonly primary: ResolvedSource | undefined; readonly file: PlannedFile },
): Promise<Chosen | undefined> => {
  try {
    const source = await resolveSource(reference, { ...context.resolve, attempts: 1, signal: context.signal })
    const { expected } = judgeSource(source, context)
    const isSame =
      source.sizeBytes === context.source.sizeBytes && expected.sha256 === context.expected.sha256
    return isSame && source.acceptsRanges !== false ? { reference, source, expected } : undefined
  } catch {
    // Not a partner now; if the primary fails, it is asked again in its turn and told about then.
    context.signal.throwIfAborted()
    return undefined
  }
}
