import type { Problem } from '../../shared/contract/errors.ts'
import type { PlanRecord } from '../../shared/contract/records.ts'
import { parseWhatHolds, refusal } from '../../shared/manifest/parse-manifest.ts'
import { askSources } from '../../shared/preflight/ask-sources.ts'
import type { SecretPlace } from '../../shared/preflight/check-secrets.ts'
import { decideSources, questionsOf, sourcedFiles } from '../../shared/preflight/decide-sources.ts'
import type { SourceDecision } from '../../shared/preflight/decide-sources.ts'
import type { SourcedFile } from '../../shared/sources/sourced-file.ts'
import { estimateDownloads, rateOf } from '../../shared/preflight/estimate.ts'
import { missingNames, placesOfSubjects } from '../../shared/preflight/places-of-subjects.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { allowHostsFrom, endpointsFrom } from '../../shared/sources/endpoints.ts'
import type { ManifestText } from '../api.ts'
import type { Environment } from '../command.ts'
import { createFetcher } from '../fetch-source.ts'
import { findSecret } from '../find-secret.ts'
import { sleep } from '../wait.ts'
import { checkRentedDisk } from './check-rented-disk.ts'
import { listUnchecked } from './list-unchecked.ts'

const ON_THIS_MACHINE: SecretPlace = {
  name: 'this machine',
  hintFor: (secret) =>
    `Set ${secret} in the environment of agentctl; on a box that runs already: agentctl secret set ${secret}.`,
}

/**
 * Every problem that can be known without a box, as a plan for a fresh one. Nothing is rented, fetched or changed.
 * @throws AgentError invalid_manifest; the signal's reason
 */
export const planLocally = async (
  text: ManifestText,
  context: {
    readonly environment: Environment
    readonly signal: AbortSignal
    readonly bytesPerSecond: number
    /** Undefined: what the manifest says. */
    readonly usdPerHour: number | undefined
  },
): Promise<PlanRecord> => {
  const parsed = parseWhatHolds(text.manifest, { file: text.file })
  const { manifest } = parsed
  const { environment, signal } = context
  const lookup = (name: string): string | undefined => findSecret(name, environment)
  const policy = { endpoints: endpointsFrom(environment), allowHosts: allowHostsFrom(environment) }
  const files = sourcedFiles(manifest)
  const { fetch, close } = createFetcher(policy)
  try {
    const facts = await askSources(questionsOf(manifest, files), {
      ...policy,
      fetch,
      signal,
      tokenFor: (kind) => lookup(kind === 'hf' ? 'HF_TOKEN' : 'CIVITAI_TOKEN'),
      clock: { now: () => new Date(), sleep: (ms) => sleep(ms, signal) },
    })
    const declared = [...manifest.secrets.required, ...manifest.secrets.optional]
    const missing = [...missingNames(manifest, lookup)]
    const decision = decideSources(
      {
        manifest,
        files,
        isProven: () => false,
        secrets: {
          place: ON_THIS_MACHINE,
          present: new Set(declared.filter((name) => lookup(name) !== undefined)),
          // A name that is no secret may be a variable of the image.
          missing: new Map(missing.filter(([name]) => declared.includes(name))),
        },
      },
      facts,
    )
    const ofTheBox = missing.map(([name]) => name).filter((name) => !declared.includes(name))
    const record = toRecord(manifest, { ...context, decision, placeOf: placesOfSubjects(parsed), ofTheBox })
    if (parsed.problems.length > 0) throw refusal(text.file, [...parsed.problems, ...record.problems])
    return record
  } finally {
    close()
  }
}

const toRecord = (
  manifest: Manifest,
  context: {
    readonly decision: SourceDecision<SourcedFile>
    readonly placeOf: (subject: string) => Problem['at']
    readonly bytesPerSecond: number
    readonly usdPerHour: number | undefined
    readonly ofTheBox: readonly string[]
  },
): PlanRecord => {
  const { decision } = context
  const sizes = [
    ...decision.files.map(({ sizeBytes }) => sizeBytes),
    ...decision.snapshots.map(({ snapshot }) => snapshot.sizeBytes),
  ]
  const isKnown = decision.snapshots.length + decision.files.length === manifest.downloads.length
  const downloadBytes =
    isKnown && !sizes.includes(null) ? sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0) : null
  const problems = [...decision.problems, ...checkRentedDisk(manifest, sizes)].map((problem) => {
    const at = problem.at ?? context.placeOf(problem.subject)
    return at === undefined ? problem : { ...problem, at }
  })
  return {
    problems: problems.toSorted((a, b) => rank(a) - rank(b)),
    changes: {
      downloads: [
        ...decision.files.map(({ to, sizeBytes, from }) => ({
          to,
          action: 'fetch' as const,
          sizeBytes,
          source: from[0] ?? '',
        })),
        ...decision.snapshots.map(({ snapshot }) => ({
          to: snapshot.to,
          action: 'fetch' as const,
          sizeBytes: snapshot.sizeBytes,
          source: snapshot.to,
        })),
      ],
      python: [],
      processes: Object.keys(manifest.processes).map((name) => ({ name, action: 'start' as const })),
      later: [...decision.later],
      left: { files: [], packages: [] },
    },
    estimate: estimateDownloads(downloadBytes, {
      bytesPerSecond: context.bytesPerSecond,
      usdPerHour: context.usdPerHour ?? rateOf(manifest),
    }),
    unchecked: [...decision.unchecked, ...listUnchecked(manifest, context.ofTheBox)],
  }
}

const rank = ({ severity }: Problem): number => (severity === 'error' ? 0 : 1)
