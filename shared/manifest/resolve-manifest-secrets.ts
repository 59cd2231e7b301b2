import type { Problem } from '../contract/errors.ts'
import type { Lookup } from './interpolate.ts'
import { findReferences, interpolate } from './interpolate.ts'
import type { ManifestPath } from './places.ts'
import { INTERPOLATED, isPlace, mapStrings, pathText, subjectOf } from './places.ts'
import type { Manifest } from './schema.ts'

/** One `${NAME}` of a manifest and where it stands. */
export type Reference = { readonly name: string; readonly path: ManifestPath }

/** Every `${NAME}` that a manifest takes a value from, in the order of its keys. */
export const listReferences = (manifest: Manifest): readonly Reference[] => {
  const references: Reference[] = []
  mapStrings(manifest, (text, path) => {
    if (isPlace(path, INTERPOLATED))
      references.push(...findReferences(text).names.map((name) => ({ name, path })))
    return text
  })
  return references
}

/**
 * The manifest with the values in place of `${NAME}`, and a problem for each name without one (its place keeps the
 * text as written). The result holds secrets: it is for the rooms that need them, never for a log, a record or an answer.
 */
export const resolveManifestSecrets = (
  manifest: Manifest,
  context: { readonly lookup: Lookup; readonly at?: (path: ManifestPath) => NonNullable<Problem['at']> },
): { readonly manifest: Manifest; readonly problems: readonly Problem[] } => {
  const problems: Problem[] = []
  const report = (
    code: Problem['code'],
    path: ManifestPath,
    words: { message: string; hint: string },
  ): void => {
    problems.push({
      code,
      severity: 'error',
      subject: subjectOf(manifest, path),
      ...(context.at ? { at: context.at(path) } : {}),
      ...words,
    })
  }
  const resolved = mapStrings(manifest, (text, path) => {
    if (!isPlace(path, INTERPOLATED)) return text
    const missing = findReferences(text).names.filter((name) => !context.lookup(name))
    for (const name of missing)
      report('secret_missing', path, {
        message: `${pathText(path)} needs \${${name}}, which has no value`,
        hint: `Put it into the box: agentctl secret set ${name}.`,
      })
    if (missing.length > 0) return text
    const value = interpolate(text, context.lookup)
    // What was a safe path as written can be another one with the values in it.
    if (
      value !== text &&
      isPathPlace(path) &&
      (value.split('/').includes('..') || !/^(\/|[\w-]+:)/.test(value))
    )
      report('unsafe_path', path, {
        message: `${pathText(path)} is not an absolute path once “${text}” is replaced`,
        hint: 'Correct the value that is taken from the environment.',
      })
    return value
  })
  // Only strings changed, and only where the schema says string.
  return { manifest: resolved as Manifest, problems }
}

const isPathPlace = (path: ManifestPath): boolean =>
  path[0] !== 'remotes' && path[0] !== 'notify' && path[2] !== 'env' && path.at(-1) !== 'fallback'
