import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { canonicalName } from './inspect-python.ts'
import { lostIndex, refusalLines } from './pip-words.ts'
import { runPip } from './pip.ts'
import type { PlannedDist, Resolution, ResolveContext, ResolveFiles } from './resolution.ts'

/**
 * What pip would install for the requests in a file, or every line in which it says why not.
 * @throws AgentError source_unavailable
 */
export const resolveWithPip = async (
  files: ResolveFiles,
  context: ResolveContext & { readonly noDeps?: boolean },
): Promise<Resolution> => {
  // The report goes to a file, for standard output may carry other text.
  const report = join(context.scratch.folder, 'report.json')
  await rm(report, { force: true })
  const result = await runPip(
    context.scratch.python,
    [
      'install',
      '--dry-run',
      '--report',
      report,
      '--only-binary=:all:',
      '--upgrade-strategy',
      'only-if-needed',
      ...(context.noDeps ? ['--no-deps'] : []),
      '--constraint',
      files.constraints,
      '--requirement',
      files.requests,
    ],
    context,
  )
  if (result.exitCode !== 0) {
    const lost = lostIndex(result, context.settings)
    if (lost !== undefined) throw lost
    return { state: 'refused', said: refusalLines(result) }
  }
  const { install } = JSON.parse(await readFile(report, 'utf8')) as Report
  return { state: 'resolved', dists: await Promise.all(install.map(plannedDist)) }
}

/** The part of pip's installation report, version 1, that counts here. */
type Report = {
  readonly install: readonly {
    readonly download_info: {
      readonly url: string
      readonly archive_info?: {
        readonly hashes?: { readonly sha256?: string }
        /** `sha256=<hex>`: all that pip before 23.1 writes (Debian 12 and Ubuntu 22.04 have it). */
        readonly hash?: string
      }
    }
    readonly metadata: {
      readonly name: string
      readonly version: string
      readonly requires_dist?: readonly string[]
    }
  }[]
}

const plannedDist = async (item: Report['install'][number]): Promise<PlannedDist> => ({
  name: canonicalName(item.metadata.name),
  version: item.metadata.version,
  sha256: sha256Of(item.download_info.archive_info),
  sizeBytes: await sizeOnDisk(item.download_info.url),
  url: item.download_info.url,
  requires: item.metadata.requires_dist ?? [],
})

/** pip tells no sizes; that of a wheel in a folder of this machine can be looked at. */
const sizeOnDisk = async (url: string): Promise<number | null> => {
  if (!url.startsWith('file:')) return null
  return (await stat(fileURLToPath(url)).catch(() => undefined))?.size ?? null
}

const sha256Of = (info: { hashes?: { sha256?: string }; hash?: string } | undefined): string | null =>
  info?.hashes?.sha256 ?? /^sha256=([0-9a-f]{64})$/.exec(info?.hash ?? '')?.[1] ?? null
