import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { PlannedSync } from '../sync/planned-sync.ts'
import { destinationOf } from '../sync/planned-sync.ts'

/** The syncs of a manifest whose secrets are filled in, each with its remote. `to` is REMOTE:path or a local path. */
export const planSyncs = (manifest: Manifest): readonly PlannedSync[] =>
  manifest.sync.map((spec) => {
    const [, name, path] = /^([A-Za-z0-9_-]+):(.*)$/s.exec(spec.to) ?? []
    const remote = name === undefined ? undefined : manifest.remotes[name]
    if (name === undefined || remote === undefined) return { spec, remote: null, to: spec.to }
    const { type = '', ...options } = remote
    return { spec, remote: { name, type, options }, to: path ?? '' }
  })

/** Syncs that copy to one place: files of the same name would take each other's. A warning, for their names may never meet. */
export const findSharedPlaces = (syncs: readonly PlannedSync[]): readonly Problem[] =>
  [...Map.groupBy(syncs, (sync) => destinationOf(sync).replace(/\/+$/, ''))].flatMap(([place, sharing]) => {
    const names = sharing.map(({ spec }) => spec.name)
    const [first, ...others] = names
    if (first === undefined || others.length === 0) return []
    const error = new AgentError('sync_config', `${names.join(' and ')} copy to the same place, ${place}`, {
      hint: 'Give each a place of its own under “to”, unless their names can never meet.',
    })
    return [{ ...problemFrom(error, first, 'warning'), subjects: names }]
  })
