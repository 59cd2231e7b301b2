import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CommandResult } from '../platform/commands.ts'
import type { PythonContext } from './context.ts'
import { canonicalName } from './inspect-python.ts'
import type { PipSettings } from './pip.ts'
import { runPip } from './pip.ts'

/** One dist that pip would install. */
export type PlannedDist = {
  /** Canonical. */
  readonly name: string
  readonly version: string
  /** Of the wheel, where the index or the file itself says it. */
  readonly sha256: string | null
  /** True when a request names it, false when it comes along. */
  readonly requested: boolean
  readonly requires: readonly string[]
}

export type Resolution =
  | { readonly state: 'resolved'; readonly dists: readonly PlannedDist[] }
  /** What pip said, line by line. */
  | { readonly state: 'refused'; readonly said: readonly string[] }

export type ResolveContext = PythonContext & {
  readonly settings: PipSettings
  readonly scratch: { readonly python: string; readonly folder: string }
}

/**
 * What pip would install for these requests. Wheels only: planning with a source archive would run its code.
 * The report goes to a file, for standard output may carry other text.
 */
export const resolveRequests = async (
  requests: readonly string[],
  context: ResolveContext & { readonly constraints: readonly string[]; readonly noDeps?: boolean },
): Promise<Resolution> => {
  const file = (name: string): string => join(context.scratch.folder, name)
  await writeFile(file('requests.txt'), lines(requests))
  await writeFile(file('constraints.txt'), lines(context.constraints))
  await rm(file('report.json'), { force: true })
  const result = await runPip(
    context.scratch.python,
    [
      'install',
      '--dry-run',
      '--report',
      file('report.json'),
      '--only-binary=:all:',
      '--upgrade-strategy',
      'only-if-needed',
      ...(context.noDeps ? ['--no-deps'] : []),
      '--constraint',
      file('constraints.txt'),
      '--requirement',
      file('requests.txt'),
    ],
    context,
  )
  if (result.exitCode !== 0) return { state: 'refused', said: saidBy(result) }
  const report = JSON.parse(await readFile(file('report.json'), 'utf8')) as Report
  return { state: 'resolved', dists: report.install.map(plannedDist) }
}

/** pip spreads its reasons over both streams: errors here, the chain of the conflict there. */
const saidBy = (result: CommandResult): string[] =>
  `${result.stdout}\n${result.stderr}`
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^ERROR:|depends on|The user requested|requires a different Python/.test(line))
    .filter((line) => !line.includes('ResolutionImpossible'))
    .map((line) => line.replace(/^ERROR: /, ''))

/** The part of pip's installation report, version 1, that counts here. */
type Report = {
  readonly install: readonly {
    readonly requested: boolean
    readonly download_info: { readonly archive_info?: { readonly hashes?: { readonly sha256?: string } } }
    readonly metadata: {
      readonly name: string
      readonly version: string
      readonly requires_dist?: readonly string[]
    }
  }[]
}

const plannedDist = (item: Report['install'][number]): PlannedDist => ({
  name: canonicalName(item.metadata.name),
  version: item.metadata.version,
  sha256: item.download_info.archive_info?.hashes?.sha256 ?? null,
  requested: item.requested,
  requires: item.metadata.requires_dist ?? [],
})

const lines = (texts: readonly string[]): string => texts.map((text) => `${text}\n`).join('')
