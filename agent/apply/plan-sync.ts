import type { Manifest } from '../../shared/manifest/schema.ts'
import type { PlannedSync } from '../sync/planned-sync.ts'

/** The syncs of a manifest whose secrets are filled in, each with its remote. `to` is REMOTE:path or a local path. */
export const planSyncs = (manifest: Manifest): readonly PlannedSync[] =>
  manifest.sync.map((spec) => {
    const [, name, path] = /^([A-Za-z0-9_-]+):(.*)$/s.exec(spec.to) ?? []
    const remote = name === undefined ? undefined : manifest.remotes[name]
    if (name === undefined || remote === undefined) return { spec, remote: null, to: spec.to }
    const { type = '', ...options } = remote
    return { spec, remote: { name, type, options }, to: path ?? '' }
  })
