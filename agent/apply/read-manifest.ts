import type { Problem } from '../../shared/contract/errors.ts'
import { findReferences } from '../../shared/manifest/interpolate.ts'
import { parseManifest, parseWhatHolds } from '../../shared/manifest/parse-manifest.ts'
import type { ParsedManifest } from '../../shared/manifest/parse-manifest.ts'
import { resolveManifestSecrets } from '../../shared/manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { missingNames, placesOfSubjects } from '../../shared/preflight/places-of-subjects.ts'
import type { PlaceOf } from '../../shared/preflight/places-of-subjects.ts'
import type { Secrets } from '../platform/secrets.ts'

/** A manifest as this box reads it: secrets and paths filled in, so it never leaves the agent's memory. */
export type ReadManifest = {
  readonly manifest: Manifest
  readonly digest: string
  /** What is wrong with the values that were filled in. */
  readonly problems: readonly Problem[]
  /** Names without a value here → the things that need them. */
  readonly missing: ReadonlyMap<string, readonly string[]>
  readonly placeOf: PlaceOf
}

/**
 * Parses a manifest and fills in what the box knows.
 * @throws AgentError invalid_manifest
 */
export const readManifest = (
  text: { readonly manifest: string; readonly file: string },
  secrets: Secrets,
): ReadManifest => {
  return resolveParsed(parseManifest(text.manifest, { file: text.file }), secrets)
}

/**
 * The same past the mistakes of the manifest, for a plan that tells all of them at once.
 * @throws AgentError invalid_manifest when nothing of it holds
 */
export const readWhatHolds = (
  text: { readonly manifest: string; readonly file: string },
  secrets: Secrets,
): ReadManifest & { readonly mistakes: readonly Problem[] } => {
  const parsed = parseWhatHolds(text.manifest, { file: text.file })
  return { ...resolveParsed(parsed, secrets), mistakes: parsed.problems }
}

const resolveParsed = (parsed: ParsedManifest, secrets: Secrets): ReadManifest => {
  const { required, optional } = parsed.manifest.secrets
  // A webhook's address is a secret whatever the manifest calls it.
  const webhook = findReferences(parsed.manifest.notify?.webhook ?? '').names
  secrets.declare([...required, ...optional, ...webhook])
  const resolved = resolveManifestSecrets(parsed.manifest, { lookup: secrets.get, at: parsed.at })
  return {
    manifest: resolved.manifest,
    digest: parsed.digest,
    // A missing name is one problem however often it is used: checkSecrets tells it.
    problems: resolved.problems.filter((problem) => problem.code !== 'secret_missing'),
    missing: missingNames(parsed.manifest, secrets.get),
    placeOf: placesOfSubjects(parsed),
  }
}
