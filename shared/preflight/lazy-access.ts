import type { Manifest } from '../manifest/schema.ts'
import { lazyRepositories } from '../cosmos/lazy-repositories.ts'

/** Something that a program fetches by itself later, and why it is known to. */
export type LazyAccess = {
  /** A file `hf://owner/repo@revision/path`, or a repository `hf://owner/repo@revision`. */
  readonly reference: string
  /** `the process enrich fetches it for its tokenizer`; null where the manifest itself lists it. */
  readonly reason: string | null
}

/** Incident B8: `requires.access`, and what each Cosmos process is known to fetch by itself; each once. */
export const lazyAccess = (manifest: Manifest): readonly LazyAccess[] => {
  const listed = manifest.requires.access.map((reference) => ({ reference, reason: null }))
  const known = Object.entries(manifest.processes).flatMap(([name, spec]) =>
    spec.kind !== 'cosmos'
      ? []
      : lazyRepositories(spec).map(({ repo, path, purpose }) => ({
          reference: `hf://${repo}@main${path === null ? '' : `/${path}`}`,
          reason: `the process ${name} fetches it ${purpose}`,
        })),
  )
  const all = new Map<string, LazyAccess>()
  for (const access of [...listed, ...known])
    if (!all.has(access.reference)) all.set(access.reference, access)
  return [...all.values()]
}

/** The entry of `downloads` that fetches it before the program needs it. */
export const downloadLine = (reference: string): string => {
  const [, repo = reference, path] = /^(hf:\/\/[^/]+\/[^/@]+(?:@[^/]+)?)(?:\/(.+))?$/.exec(reference) ?? []
  if (path === undefined) return `- {snapshot: "${repo}"}`
  const pickle = /\.(ckpt|pt|pth|bin|pkl|pickle)$/i.test(path) ? ', allow_pickle: true' : ''
  return `- {snapshot: "${repo}", include: ["${path}"]${pickle}}`
}
