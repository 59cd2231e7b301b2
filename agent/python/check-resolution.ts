import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { OpenRequest } from './explain.ts'
import { movesOf } from './explain.ts'
import type { WeighedPython } from './inspect-python.ts'
import { canonicalName, weighRequirements } from './inspect-python.ts'
import type { ProtectedDists } from './protected.ts'
import { problemAt } from './requirement-files.ts'
import type { PlannedDist, ResolveContext } from './resolution.ts'

type CheckContext = ResolveContext & {
  readonly top: WeighedPython
  readonly protectedSet: ProtectedDists
  readonly open: readonly OpenRequest[]
}

/** What pip does not say about its own plan: hashes, dists it cannot replace, and requirements that would break. */
export const checkResolution = async (
  dists: readonly PlannedDist[],
  context: CheckContext,
): Promise<Problem[]> => [
  ...movesOf(dists, context.protectedSet).map((dist) =>
    problem('install_blocked', dist.name, `${dist.name} ${dist.version} would replace a protected version`),
  ),
  ...wrongHashes(dists, context.open),
  ...irreplaceable(dists, context),
  ...(await newlyBroken(dists, context)),
]

const problem = (code: Problem['code'], subject: string, message: string): Problem => ({
  code,
  severity: 'error',
  subject,
  message,
  hint: ERROR_CODES[code].hint,
})

const wrongHashes = (dists: readonly PlannedDist[], open: readonly OpenRequest[]): Problem[] =>
  open.flatMap((request) => {
    const allowed = request.hashes.filter((hash) => hash.startsWith('sha256:')).map((hash) => hash.slice(7))
    const dist = dists.find((one) => one.name === request.name)
    if (allowed.length === 0 || dist?.sha256 === undefined || allowed.includes(dist.sha256 ?? '')) return []
    const message = `the wheel of ${dist.name} ${dist.version} has the sha256 ${dist.sha256 ?? 'unknown'}, which the line does not allow`
    return [problemAt('hash_mismatch', request.sources[0], { subject: request.text, message })]
  })

/** pip cannot uninstall a dist without RECORD, and finds out in the middle of the work. */
const irreplaceable = (dists: readonly PlannedDist[], { top, folder }: CheckContext): Problem[] =>
  dists.flatMap((dist) => {
    const installed = top.dists.find((one) => canonicalName(one.name) === dist.name)
    if (!installed?.metadata || installed.location !== top.purelib || !top.prefix.startsWith(folder))
      return []
    if (existsSync(join(installed.metadata, 'RECORD'))) return []
    const message = `${dist.name} ${installed.version} cannot be replaced: its RECORD is missing in ${installed.metadata}`
    return [problem('install_blocked', dist.name, message)]
  })

/** Requirements that hold now and would not after: pip only prints them, after the fact. */
const newlyBroken = async (dists: readonly PlannedDist[], context: CheckContext): Promise<Problem[]> => {
  const { top } = context
  const there = new Set(top.dists.map((dist) => canonicalName(dist.name)))
  const replaced = new Map(
    dists.filter((dist) => there.has(dist.name)).map((dist) => [dist.name, dist.version]),
  )
  if (replaced.size === 0) return []
  const planned = new Set(dists.map((dist) => dist.name))
  const lines = top.dists
    .filter((dist) => !planned.has(canonicalName(dist.name)))
    .flatMap((dist) =>
      dist.requires
        .filter((line) => replaced.has(canonicalName(/^[\w.-]+/.exec(line)?.[0] ?? '')))
        .filter((line) => !(top.unmet[canonicalName(dist.name)] ?? []).includes(line))
        .map((line) => ({ dist, line })),
    )
  const after = await weighRequirements(context.scratch.python, {
    requirements: lines.map((one) => one.line),
    overlay: null,
    pretend: Object.fromEntries(replaced),
    signal: context.signal,
    environment: context.environment,
  })
  return lines.flatMap(({ dist }, index) => {
    const one = after.weighed[index]
    if (one === undefined || one.error !== undefined || !one.applies || one.satisfied) return []
    const message = `${dist.name} ${dist.version} requires ${one.text}, and ${one.name} becomes ${one.installed ?? 'another'}`
    return [{ ...problem('requirement_conflict', dist.name, message), severity: 'warning' as const }]
  })
}
