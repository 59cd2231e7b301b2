import type { Problem } from '../../shared/contract/errors.ts'
import { parseManifest } from '../../shared/manifest/parse-manifest.ts'
import type { ParsedManifest } from '../../shared/manifest/parse-manifest.ts'
import { subjectOf } from '../../shared/manifest/places.ts'
import { listReferences, resolveManifestSecrets } from '../../shared/manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Secrets } from '../platform/secrets.ts'

/** A manifest as this box reads it: secrets and paths filled in, so it never leaves the agent's memory. */
export type ReadManifest = {
  readonly manifest: Manifest
  readonly digest: string
  /** What is wrong with the values that were filled in. */
  readonly problems: readonly Problem[]
  /** Names without a value here → the things that need them. */
  readonly missing: ReadonlyMap<string, readonly string[]>
  /** Where the thing with this name stands in the file. */
  placeOf(subject: string): Problem['at']
}

/**
 * Parses a manifest and fills in what the box knows.
 * @throws AgentError invalid_manifest
 */
export const readManifest = (
  text: { readonly manifest: string; readonly file: string },
  secrets: Secrets,
): ReadManifest => {
  const parsed = parseManifest(text.manifest, { file: text.file })
  const { required, optional } = parsed.manifest.secrets
  secrets.declare([...required, ...optional])
  const resolved = resolveManifestSecrets(parsed.manifest, { lookup: secrets.get, at: parsed.at })
  return {
    manifest: resolved.manifest,
    digest: parsed.digest,
    // A missing name is one problem however often it is used: checkSecrets tells it.
    problems: resolved.problems.filter((problem) => problem.code !== 'secret_missing'),
    missing: missingNames(parsed.manifest, secrets),
    placeOf: placesOf(parsed),
  }
}

const missingNames = (manifest: Manifest, secrets: Secrets): ReadonlyMap<string, readonly string[]> => {
  const missing = new Map<string, string[]>()
  for (const { name, path } of listReferences(manifest)) {
    if (secrets.get(name) !== undefined) continue
    const subjects = missing.get(name) ?? []
    const subject = subjectOf(manifest, path)
    missing.set(name, subjects.includes(subject) ? subjects : [...subjects, subject])
  }
  return missing
}

const placesOf = ({ manifest, at }: ParsedManifest): ReadManifest['placeOf'] => {
  const places = new Map<string, readonly (string | number)[]>([
    ['python', ['python']],
    ['budget', ['budget']],
    ['notify', ['notify']],
    ['requires.gpu', ['requires', 'gpu']],
    ...manifest.downloads.map((download, index) => {
      const key = 'to' in download ? 'to' : 'snapshot'
      return ['to' in download ? download.to : download.snapshot, ['downloads', index, key]] as const
    }),
    ...manifest.custom_nodes.map((node, index) => [node.git, ['custom_nodes', index, 'git']] as const),
    ...Object.keys(manifest.processes).map((name) => [name, ['processes', name]] as const),
    ...manifest.sync.map((sync, index) => [sync.name, ['sync', index, 'name']] as const),
    ...manifest.secrets.required.map((name, index) => [name, ['secrets', 'required', index]] as const),
    ...manifest.secrets.optional.map((name, index) => [name, ['secrets', 'optional', index]] as const),
  ])
  return (subject) => {
    const path = places.get(subject)
    return path && at(path)
  }
}
