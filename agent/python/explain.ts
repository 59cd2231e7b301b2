import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { WeighedPython } from './inspect-python.ts'
import { canonicalName, weighRequirements } from './inspect-python.ts'
import { brokeOff } from './pip-words.ts'
import { runPip } from './pip.ts'
import type { ProtectedDists } from './protected.ts'
import type { RequirementSource } from './requirement-files.ts'
import { problemAt, sourceName } from './requirement-files.ts'
import type { PlannedDist, ResolveContext } from './resolution.ts'
import { resolveRequests } from './resolve.ts'

/** A requirement that something has to be done for, with everybody who wants it. */
export type OpenRequest = {
  readonly name: string
  readonly text: string
  readonly sources: readonly [RequirementSource, ...RequirementSource[]]
  readonly hashes: readonly string[]
  readonly noDeps: boolean
}

type ExplainContext = ResolveContext & {
  readonly top: WeighedPython
  readonly protectedSet: ProtectedDists
  /** The lines pip was given. */
  readonly constraints: readonly string[]
  /** The same without the protected dists: what only a plan that explains may use. */
  readonly openConstraints: readonly string[]
}

/**
 * Why pip refused these requests: each is tried alone, so that the reason carries the right file and line; what fails
 * only together is a conflict between them.
 */
export const explainRefusal = async (
  refused: { readonly requests: readonly OpenRequest[]; readonly said: readonly string[] },
  context: ExplainContext,
): Promise<Problem[]> => {
  const problems: Problem[] = []
  for (const request of refused.requests) {
    const alone = { ...context, noDeps: request.noDeps }
    const tried =
      refused.requests.length === 1
        ? { state: 'refused' as const, said: refused.said }
        : await resolveRequests([request.text], alone)
    if (tried.state === 'resolved') continue
    const free = await resolveRequests([request.text], { ...alone, constraints: context.openConstraints })
    const moves = free.state === 'resolved' ? movesOf(free.dists, context.protectedSet) : []
    if (free.state === 'refused' || moves.length === 0)
      problems.push(await unresolvable(request, tried.said, context))
    else for (const move of moves) problems.push(await blocked(request, { move, dists: free.dists }, context))
  }
  if (problems.length > 0) return problems
  const [first, ...others] = refused.requests
  return first === undefined
    ? []
    : [
        {
          code: 'requirement_conflict',
          severity: 'error',
          subject: first.text,
          subjects: others.map((one) => one.text),
          message: `these cannot be installed together: ${refused.said.join('; ')} (${refused.requests.map(wantedBy).join('; ')})`,
          hint: ERROR_CODES.requirement_conflict.hint,
        },
      ]
}

/** Protected dists that a resolution would change. */
export const movesOf = (
  dists: readonly PlannedDist[],
  protectedSet: ProtectedDists,
): readonly PlannedDist[] =>
  dists.filter((dist) => (protectedSet.get(dist.name) ?? dist.version) !== dist.version)

/** `torch 2.9.1+cu128 → 2.10.0 because nodeb 1.0 requires torch>=2.10 (/nodes/b/requirements.txt:4)` */
const blocked = async (
  request: OpenRequest,
  found: { readonly move: PlannedDist; readonly dists: readonly PlannedDist[] },
  context: ExplainContext,
): Promise<Problem> => {
  const { move } = found
  const dists = await withRequires(found.dists, context)
  const wanting = dists.flatMap((dist) =>
    (dist.requires ?? [])
      .filter((line) => canonicalName(/^[\w.-]+/.exec(line)?.[0] ?? '') === move.name)
      .map((line) => ({ dist, line })),
  )
  const { weighed } = await weighRequirements(context.scratch.python, {
    requirements: wanting.map((one) => one.line),
    overlay: null,
    signal: context.signal,
    environment: context.environment,
  })
  const reasons = wanting.flatMap(({ dist }, index) => {
    const one = weighed[index]
    return one?.error === undefined && one?.applies && !one.satisfied
      ? [`${dist.name} ${dist.version} requires ${one.text}`]
      : []
  })
  const because = reasons.length > 0 ? reasons.join(' and ') : `${request.text} brings it`
  return problemAt('install_blocked', request.sources[0], {
    subject: move.name,
    message:
      `${move.name} ${context.protectedSet.get(move.name) ?? ''} → ${move.version} because ${because} ` +
      `(${wantedBy(request)}); ${move.name} is protected`,
  })
}

/** Comes with torch and never asks for one: its wheels are the largest there are. */
const PART_OF_TORCH = /^(nvidia|cuda)-|^(torch|triton)$/

/** The same dists with what they require, as far as it can explain why a protected one moves. */
const withRequires = async (
  dists: readonly PlannedDist[],
  context: ExplainContext,
): Promise<readonly PlannedDist[]> => {
  if (dists.every(({ requires }) => requires !== null)) return dists
  const asked = await resolveRequests(
    dists.filter(({ name }) => !PART_OF_TORCH.test(name)).map(({ name, version }) => `${name}===${version}`),
    { ...context, uv: null, noDeps: true, constraints: [] },
  )
  return asked.state === 'resolved' ? asked.dists : dists
}

const wantedBy = (request: OpenRequest): string => request.sources.map(sourceName).join(', ')

const unresolvable = async (
  request: OpenRequest,
  said: readonly string[],
  context: ExplainContext,
): Promise<Problem> => {
  const missing = said
    .map((line) => /No matching distribution found for ([A-Za-z0-9][\w.-]*)/.exec(line)?.[1])
    .find((name) => name !== undefined)
  const subject = request.text
  if (missing === undefined) {
    const { unreadable } = context.top
    const image = brokeOff(said) && unreadable.length > 0
    return problemAt('install_unresolvable', request.sources[0], {
      subject,
      message:
        `${subject} cannot be installed: ${said.join('; ') || 'pip gave no reason'}` +
        (image ? `; the metadata in ${unreadable.join(', ')} cannot be read` : ''),
      ...(image ? { hint: 'Repair or remove that package in the image; no pip works beside it.' } : {}),
    })
  }
  const noWheel = said.some((line) => line.includes('from versions: none'))
  const offered = noWheel ? await askIndex(missing, context) : { versions: '', reasons: [] }
  if (offered.versions !== '')
    return problemAt('install_needs_build', request.sources[0], {
      subject,
      message: `${missing} (${offered.versions}) has no wheel for this Python, only source, which would have to be built`,
    })
  const why =
    offered.reasons.length > 0 ? offered.reasons : said.filter((line) => /from versions|Python/.test(line))
  return problemAt('install_unresolvable', request.sources[0], {
    subject,
    message: `${subject} cannot be installed: ${why.join('; ') || said.join('; ')}`,
  })
}

/** What the index has of a name, source archives included, and why its wheels do not fit. Runs nobody's code. */
const askIndex = async (
  name: string,
  context: ExplainContext,
): Promise<{ versions: string; reasons: string[] }> => {
  const result = await runPip(context.scratch.python, ['index', 'versions', name, '-vv'], context)
  const reasons = [...`${result.stdout}\n${result.stderr}`.matchAll(/Skipping link: (.+?): (\S+)$/gm)]
    .filter(([, why]) => why !== undefined && /wheel's tags|different Python|requires/i.test(why))
    .map(([, why, link]) => `${basename(link ?? '')}: ${why?.replace(/ \(run pip debug.*\)/, '') ?? ''}`)
  const versions = /^Available versions: (.+)$/m.exec(result.stdout)?.[1] ?? ''
  return { versions, reasons: [...new Set(reasons)].slice(0, 5) }
}

const basename = (link: string): string =>
  decodeURIComponent(link.split(/[#?]/)[0]?.split('/').at(-1) ?? link)
