import type { Problem } from '../contract/errors.ts'
import type { ParsedManifest } from '../manifest/parse-manifest.ts'
import type { ManifestPath } from '../manifest/places.ts'
import { subjectOf } from '../manifest/places.ts'
import { listReferences } from '../manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../manifest/schema.ts'
import { nodeFolderName } from '../sources/ask-git.ts'

/** Where the thing with this name stands in the file; undefined for what the manifest does not name. */
export type PlaceOf = (subject: string) => Problem['at']

/** Finds the line of a problem's subject: a destination, a package, a process, a secret. */
export const placesOfSubjects = ({ manifest, at }: Pick<ParsedManifest, 'manifest' | 'at'>): PlaceOf => {
  const { gpu, access } = manifest.requires
  const places = new Map<string, ManifestPath>([
    ...['python', 'budget', 'notify'].map((key): [string, ManifestPath] => [key, [key]]),
    ['instance.disk', ['instance', 'disk']],
    ['requires.gpu', ['requires', 'gpu']],
    ['requires.disk_free', ['requires', 'disk_free']],
    ...Object.keys(gpu ?? {}).map((key): [string, ManifestPath] => [
      `requires.gpu.${key}`,
      ['requires', 'gpu', key],
    ]),
    ...manifest.downloads.map((download, index): [string, ManifestPath] => [
      'to' in download ? download.to : download.snapshot,
      ['downloads', index, 'to' in download ? 'to' : 'snapshot'],
    ]),
    ...access.map((one, index): [string, ManifestPath] => [one, ['requires', 'access', index]]),
    ...(manifest.python?.requirements ?? []).map((one, index): [string, ManifestPath] => [
      one,
      ['python', 'requirements', index],
    ]),
    ...(manifest.python?.install ?? []).flatMap((entry, index): [string, ManifestPath][] => {
      const path: ManifestPath = ['python', 'install', index]
      return 'git' in entry
        ? [
            [nodeFolderName(entry.git), path],
            [entry.git, path],
          ]
        : [
            [packageName(entry.spec), path],
            [entry.spec, path],
          ]
    }),
    ...manifest.custom_nodes.flatMap(({ git }, index): [string, ManifestPath][] => [
      [nodeFolderName(git), ['custom_nodes', index, 'git']],
      [git, ['custom_nodes', index, 'git']],
    ]),
    ...Object.keys(manifest.remotes).map((name): [string, ManifestPath] => [name, ['remotes', name]]),
    ...Object.keys(manifest.processes).map((name): [string, ManifestPath] => [name, ['processes', name]]),
    ...Object.entries(manifest.processes).flatMap(([name, spec]) =>
      (spec.kind === 'comfyui' ? spec.workflows : []).map((file, index): [string, ManifestPath] => [
        file,
        ['processes', name, 'workflows', index],
      ]),
    ),
    ...manifest.sync.map(({ name }, index): [string, ManifestPath] => [name, ['sync', index, 'name']]),
    ...(['required', 'optional'] as const).flatMap((list) =>
      manifest.secrets[list].map((name, index): [string, ManifestPath] => [name, ['secrets', list, index]]),
    ),
  ])
  return (subject) => {
    const path = places.get(subject) ?? firstUse(manifest, subject)
    return path && at(path)
  }
}

/** `natsort` of `natsort[extra]==8.4.0`. */
const packageName = (spec: string): string => /^[A-Za-z0-9._-]*/.exec(spec.trim())?.[0] ?? spec

/** A name that is not declared stands where its value is taken. */
const firstUse = (manifest: Manifest, name: string): ManifestPath | undefined =>
  listReferences(manifest).find((reference) => reference.name === name)?.path

/** Names without a value → the things that take it with `${NAME}`. */
export const missingNames = (
  manifest: Manifest,
  lookup: (name: string) => string | undefined,
): ReadonlyMap<string, readonly string[]> => {
  const missing = new Map<string, readonly string[]>()
  for (const { name, path } of listReferences(manifest)) {
    if (lookup(name)) continue
    const subjects = missing.get(name) ?? []
    const subject = subjectOf(manifest, path)
    missing.set(name, subjects.includes(subject) ? subjects : [...subjects, subject])
  }
  return missing
}
