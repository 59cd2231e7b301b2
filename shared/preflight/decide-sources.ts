import type { Problem } from '../contract/errors.ts'
import type { Manifest, SnapshotDownload } from '../manifest/schema.ts'
import type { HubKind } from '../sources/endpoints.ts'
import { parseSource } from '../sources/parse-source.ts'
import type { Snapshot } from '../sources/plan-snapshot.ts'
import type { Questions } from './ask-sources.ts'
import { causeOf, foldCauses, TOKEN_NAMES, tokenCause } from './caused-problem.ts'
import type { CausedProblem } from './caused-problem.ts'
import { checkGitRefs, wantedRefs } from './check-git-refs.ts'
import { checkSecrets, checkTokens } from './check-secrets.ts'
import type { SecretPlace } from './check-secrets.ts'
import { checkSnapshot } from './check-snapshots.ts'
import { checkFile } from './check-sources.ts'
import type { SourcedFile } from '../sources/sourced-file.ts'
import type { SourcesContext } from './check-sources.ts'
import { downloadLine, lazyAccess } from './lazy-access.ts'
import type { SourceFacts } from './source-facts.ts'

/*
 * The part of a plan that can be known anywhere: what hubs and git servers say of the manifest, and which secrets are
 * there. `agentctl plan --local` and the agent ask by the same questions and decide by the same function.
 */

/** The files of a manifest, as far as their sources are concerned. */
export const sourcedFiles = (manifest: Manifest): readonly SourcedFile[] =>
  manifest.downloads.flatMap((download) =>
    'to' in download
      ? [
          {
            to: download.to,
            from: download.from,
            sha256: download.sha256 ?? null,
            sizeBytes: download.size ?? null,
            optional: download.optional,
            allowPickle: download.allow_pickle,
          },
        ]
      : [],
  )

/** The repositories of a manifest that are fetched whole. */
export const wantedSnapshots = (manifest: Manifest): readonly SnapshotDownload[] =>
  manifest.downloads.filter((download) => 'snapshot' in download)

/** What has to be asked to decide; `files` are those whose sources matter still. */
export const questionsOf = (manifest: Manifest, files: readonly SourcedFile[]): Questions => {
  const references = files.flatMap(({ from }) => from)
  const snapshots = wantedSnapshots(manifest)
  const access = lazyAccess(manifest).map(({ reference }) => reference)
  const hubs = new Set<HubKind>([...references, ...access].flatMap(hubOf))
  if (snapshots.length > 0) hubs.add('hf')
  const declared = [...manifest.secrets.required, ...manifest.secrets.optional]
  const tokens = HUBS.filter((kind) => hubs.has(kind) || declared.includes(TOKEN_NAMES[kind]))
  return { references, access, snapshots, gitRefs: wantedRefs(manifest), tokens }
}

const HUBS: readonly HubKind[] = ['hf', 'civitai']

const hubOf = (reference: string): readonly HubKind[] => {
  if (reference.startsWith('hf://')) return ['hf']
  try {
    const { kind } = parseSource(reference)
    return kind === 'https' ? [] : [kind]
  } catch {
    // What is no source is refused when it is asked.
    return []
  }
}

export type SourceDecision<File extends SourcedFile> = {
  /** As the sources describe them. */
  readonly files: readonly File[]
  /** The repositories that can be had, each with the manifest's words for it. */
  readonly snapshots: readonly { readonly request: SnapshotDownload; readonly snapshot: Snapshot }[]
  /** What programs fetch by themselves later. */
  readonly later: readonly { readonly source: string; readonly download: string }[]
  readonly problems: readonly Problem[]
  readonly unchecked: readonly string[]
}

/** Every problem that secrets, hubs and git servers give, one for each cause. Pure. */
export const decideSources = <File extends SourcedFile>(
  wanted: {
    readonly manifest: Manifest
    readonly files: readonly File[]
    /** Files that are there, verified: their sources do not matter any more. */
    readonly isProven: (file: File) => boolean
    readonly secrets: {
      readonly place: SecretPlace
      readonly present: ReadonlySet<string>
      /** Names without a value → the things that take it with `${NAME}`. */
      readonly missing: ReadonlyMap<string, readonly string[]>
    }
  },
  facts: SourceFacts,
): SourceDecision<File> => {
  const { manifest, secrets } = wanted
  const requiredTokens = new Set(HUBS.filter((kind) => manifest.secrets.required.includes(TOKEN_NAMES[kind])))
  const context: SourcesContext & Pick<SourceFacts, 'snapshots'> = {
    sources: facts.sources,
    snapshots: facts.snapshots,
    causeOf: ({ code, message }, reference) => causeOf(code, { reference, message, facts, requiredTokens }),
  }
  const files = wanted.files.map((file) =>
    wanted.isProven(file) ? { file, problems: [] } : checkFile(file, context),
  )
  const snapshots = wantedSnapshots(manifest).map((request) => ({
    request,
    ...checkSnapshot(request, context),
  }))
  const git = checkGitRefs(manifest, facts)
  const refusals: CausedProblem[] = [
    ...files.flatMap(({ problems }) => problems),
    ...snapshots.flatMap(({ problems }) => problems),
    ...checkAccess(manifest, context),
    ...git.problems,
  ]
  const indispensable = new Set(
    HUBS.filter((kind) =>
      refusals.some(({ cause, severity }) => cause === tokenCause(kind) && severity === 'error'),
    ),
  )
  const neededBy = new Map(
    HUBS.map((kind) => [
      kind,
      [...new Set(refusals.filter(({ cause }) => cause === tokenCause(kind)).map(({ subject }) => subject))],
    ]),
  )
  const ofTokens = new Set(HUBS.map(tokenCause))
  return {
    files: files.map(({ file }) => file),
    snapshots: snapshots.flatMap(({ request, snapshot }) =>
      snapshot === null ? [] : [{ request, snapshot }],
    ),
    later: laterOf(manifest, facts),
    problems: [
      ...checkSecrets(manifest, { ...secrets, neededBy: withTokens(secrets.missing, { neededBy, facts }) }),
      ...checkTokens(facts, { required: manifest.secrets.required, neededBy, indispensable }),
      ...foldCauses(refusals.filter(({ cause }) => cause === undefined || !ofTokens.has(cause))),
    ],
    unchecked: [
      ...HUBS.flatMap((kind) => {
        const fact = facts.tokens.get(kind)
        return fact?.state === 'unknown'
          ? [`${TOKEN_NAMES[kind]}: whether the hub accepts it (${fact.why})`]
          : []
      }),
      ...files.flatMap(({ file }) => (wanted.isProven(file) ? [] : unknownOf(file, { wanted, facts }))),
      ...git.unchecked,
    ],
  }
}

/** What only the bytes of a file are going to tell. */
const unknownOf = (
  file: SourcedFile,
  { wanted, facts }: { readonly wanted: { readonly manifest: Manifest }; readonly facts: SourceFacts },
): readonly string[] => {
  const answers = file.from.flatMap((reference) => {
    const fact = facts.sources.get(reference)
    return fact?.state === 'answers' ? [fact] : []
  })
  if (answers.length === 0) return []
  const said = wanted.manifest.downloads.find((one) => 'to' in one && one.to === file.to)
  const isSaid = said !== undefined && 'to' in said && said.sha256 !== undefined
  return [
    ...(file.sizeBytes === null ? [`the size of ${file.to}: no source publishes it`] : []),
    ...(isSaid && answers.every(({ sha256 }) => sha256 === null)
      ? [`the sha256 of ${file.to}: no source publishes one, so the bytes decide`]
      : []),
  ]
}

/** Files that a missing token keeps away belong to the problem of the token. */
const withTokens = (
  missing: ReadonlyMap<string, readonly string[]>,
  context: {
    readonly neededBy: ReadonlyMap<HubKind, readonly string[]>
    readonly facts: Pick<SourceFacts, 'tokens'>
  },
): ReadonlyMap<string, readonly string[]> => {
  const all = new Map(missing)
  for (const [kind, subjects] of context.neededBy)
    if (subjects.length > 0 && context.facts.tokens.get(kind)?.state === 'absent')
      all.set(TOKEN_NAMES[kind], [...(missing.get(TOKEN_NAMES[kind]) ?? []), ...subjects])
  return all
}

/** Refusals that a licence or a token cures; others of the built-in list may be a list that has grown old. */
const OF_ACCESS: readonly Problem['code'][] = ['gated', 'bad_token', 'login_required']

const checkAccess = (manifest: Manifest, context: SourcesContext): readonly CausedProblem[] => {
  const fetched = manifest.downloads.flatMap((one) => ('to' in one ? one.from : [one.snapshot]))
  return lazyAccess(manifest).flatMap(({ reference, reason }) => {
    const fact = context.sources.get(reference)
    // What is fetched anyway was told as that.
    if (fact?.state !== 'refused' || fetched.includes(reference)) return []
    const { code, message, hint } = fact.problem
    const why = reason ?? 'a program fetches it by itself (requires.access)'
    return [
      {
        code,
        message: `${message}; ${why}`,
        hint: `${hint} To fetch it with the rest, add to downloads: ${downloadLine(reference)}`,
        subject: reference,
        severity: reason === null || OF_ACCESS.includes(code) ? ('error' as const) : ('warning' as const),
        cause: context.causeOf(fact.problem, reference),
      },
    ]
  })
}

const laterOf = (
  manifest: Manifest,
  facts: Pick<SourceFacts, 'sources'>,
): readonly { readonly source: string; readonly download: string }[] => {
  const fetched = new Set(
    manifest.downloads.flatMap((one) => ('to' in one ? one.from : [one.snapshot.replace(/@.*$/, '')])),
  )
  return lazyAccess(manifest).flatMap(({ reference }) => {
    const repo = /^hf:\/\/[^/]+\/[^/@]+/.exec(reference)?.[0] ?? reference
    if (fetched.has(reference) || fetched.has(repo) || facts.sources.get(reference)?.state !== 'answers')
      return []
    return [{ source: reference, download: downloadLine(reference) }]
  })
}
