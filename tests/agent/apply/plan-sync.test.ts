import { expect, test } from 'vitest'
import { findSharedPlaces, planSyncs } from '../../../agent/apply/plan-sync.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'

const planned = (places: Readonly<Record<string, string>>) => {
  const sync = Object.entries(places).map(([name, to]) => ({ name, path: `/w/${name}`, to }))
  const remotes = { b2: { type: 'alias', remote: '/mnt' } }
  const parsed = parseManifest(JSON.stringify({ version: 1, name: 'm', remotes, sync }), { file: 'm.yaml' })
  return planSyncs(parsed.manifest)
}

test('syncs that copy to one place are warned of, by name', () => {
  const syncs = planned({ models: 'b2:bucket/run', logs: 'b2:bucket/run/', other: 'b2:bucket/other' })
  expect(findSharedPlaces(syncs)).toMatchObject([
    { code: 'sync_config', severity: 'warning', subject: 'models', subjects: ['models', 'logs'] },
  ])
  expect(findSharedPlaces(planned({ models: 'b2:bucket/run', logs: 'b2:bucket/logs' }))).toEqual([])
})
