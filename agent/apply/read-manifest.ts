import type { Problem } from '../../shared/contract/errors.ts'
import { parseManifest } from '../../shared/manifest/parse-manifest.ts'
import type { ParsedManifest } from '../../shared/manifest/parse-manifest.ts'
import { resolveManifestSecrets } from '../../shared/manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Secrets } from '../platform/secrets.ts'

/** A manifest as this box reads it: secrets and paths filled in, so it never leaves the agent's memory. */
export type ReadManifest = {
  readonly manifest: Manifest
  readonly digest: string
  /** Names that have no value here. */
  readonly problems: readonly Problem[]
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
  return { ...resolved, digest: parsed.digest, placeOf: placesOf(parsed) }
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
