import pLimit from 'p-limit'
import { AgentError } from '../../shared/contract/errors.ts'
import { resolveSource } from '../../shared/sources/resolve-source.ts'
import type { DiskNeed } from '../preflight/check-disks.ts'
import { overlayBytes } from '../python/check-disk.ts'
import type { PythonPlan } from '../python/plan-python.ts'
import type { Rooms } from './rooms.ts'

/** What packages take: bytes to fetch, room in the overlay, and what could not be found out. */
export type PackageSizes = {
  readonly downloadBytes: number
  readonly needs: readonly DiskNeed[]
  readonly unchecked: readonly string[]
}

const AT_ONCE = 8

/**
 * The sizes of the planned wheels: what the resolver told, else what the index answers when it is asked for the wheel
 * (pip tells no sizes). What nobody tells is listed as unchecked.
 * @throws the signal's reason
 */
export const sizePackages = async (
  plan: PythonPlan | null,
  context: { readonly rooms: Pick<Rooms, 'probes' | 'homePath'>; readonly signal: AbortSignal },
): Promise<PackageSizes> => {
  if (plan === null) return { downloadBytes: 0, needs: [], unchecked: [] }
  const limit = pLimit(AT_ONCE)
  const sized = await Promise.all(
    plan.dists.map(async ({ name, sizeBytes, url }) => ({
      name,
      bytes: sizeBytes ?? (url === null ? null : await limit(() => askSize(url, context))),
      isHere: url?.startsWith('file:') === true,
    })),
  )
  const packedBytes = sumOf(sized)
  const unknown = sized.filter(({ bytes }) => bytes === null).map(({ name }) => name)
  return {
    // A wheel in a folder of the box takes room in the overlay, and no line.
    downloadBytes: sumOf(sized.filter(({ isHere }) => !isHere)),
    needs:
      packedBytes === 0
        ? []
        : [
            {
              to: 'python',
              path: context.rooms.homePath,
              bytes: overlayBytes(packedBytes),
              isOverlay: true,
            },
          ],
    unchecked: [
      ...(unknown.length > 0
        ? [`the size of ${unknown.join(', ')}: the package index does not tell it`]
        : []),
      ...plan.builds.map(({ git }) => `the size of ${git}, and what it requires: it is built first`),
    ],
  }
}

const sumOf = (sized: readonly { readonly bytes: number | null }[]): number =>
  sized.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)

const askSize = async (
  url: string,
  { rooms, signal }: Parameters<typeof sizePackages>[1],
): Promise<number | null> => {
  try {
    return (await resolveSource(url, { ...rooms.probes.resolve, attempts: 2, signal })).sizeBytes
  } catch (error) {
    signal.throwIfAborted()
    // An index that answers pip and not this question leaves a size unknown, no more.
    if (error instanceof AgentError) return null
    throw error
  }
}
