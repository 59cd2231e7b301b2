import type { ManifestPath } from './places.ts'
import { isRecord, pathText, valueAt } from './places.ts'
import type { Finding } from './schema-problems.ts'
import type { Manifest } from './schema.ts'

/** What stays of a manifest when everything that is wrong in it is taken out. */
export type Salvaged = {
  readonly manifest: Manifest
  /** Where a value of it stands in the manifest as it was written. */
  readonly originalPath: (path: ManifestPath) => ManifestPath
}

export type Checked = { readonly manifest: Manifest | undefined; readonly findings: readonly Finding[] }

/** What is taken out may be what something else was for. */
const MOST_ROUNDS = 20

/**
 * Takes out what is wrong, the smallest thing each time (an unknown key, an entry of a list, at last a section), until the
 * rest is a manifest: so that a plan can tell of its sources in the same run. Undefined where nothing is left.
 */
export const salvage = (
  value: Readonly<Record<string, unknown>>,
  check: (value: Readonly<Record<string, unknown>>) => Checked,
): Salvaged | undefined => {
  const current = structuredClone(value) as Record<string, unknown>
  /** Which entries of a list are still there, by the place of the list in the original. */
  const kept = new Map<string, number[]>()
  const originalPath = (path: ManifestPath): ManifestPath =>
    path.reduce<(string | number)[]>(
      (original, part) => [
        ...original,
        typeof part === 'number' ? (kept.get(pathText(original))?.[part] ?? part) : part,
      ],
      [],
    )
  const takeOut = (path: ManifestPath): void => {
    const [section] = path
    if (path.length === 1 && section !== undefined && Object.hasOwn(DEFAULTS, section)) {
      current[section] = DEFAULTS[section]
      return
    }
    const holder = valueAt(current, path.slice(0, -1))
    const last = path.at(-1)
    if (Array.isArray(holder) && typeof last === 'number' && last < holder.length) {
      const list = pathText(originalPath(path.slice(0, -1)))
      const indices = kept.get(list) ?? holder.map((_, index) => index)
      kept.set(list, indices.toSpliced(last, 1))
      holder.splice(last, 1)
    } else if (isRecord(holder) && typeof last === 'string' && Object.hasOwn(holder, last))
      Reflect.deleteProperty(holder, last)
    // A key that is missing: what should hold it goes.
    else if (path.length > 1) takeOut(path.slice(0, -1))
  }
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const { manifest, findings } = check(current)
    if (findings.length === 0) return manifest && { manifest, originalPath }
    // From the end of each list to its start, so that the places before stay right.
    const paths = new Map(findings.map(({ path }) => [pathText(path), path]))
    for (const path of [...paths.values()].toSorted(lastFirst)) takeOut(path)
  }
  return undefined
}

/** Sections without which there is no manifest. */
const DEFAULTS: Readonly<Record<string, unknown>> = { version: 1, name: 'unnamed', models_root: '/models' }

const lastFirst = (a: ManifestPath, b: ManifestPath): number => {
  for (let index = 0; index < Math.max(a.length, b.length); index += 1) {
    const [one, other] = [a[index], b[index]]
    if (one === undefined || other === undefined) return one === undefined ? 1 : -1
    if (typeof one === 'number' && typeof other === 'number' && one !== other) return other - one
    if (one !== other) return 0
  }
  return 0
}
