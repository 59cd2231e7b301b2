import { expect, test } from 'vitest'
import { nodesFolder } from '../../../agent/apply/node-requirements.ts'
import { planEnvironment } from '../../../agent/apply/plan-environment.ts'
import { Manifest } from '../../../shared/manifest/schema.ts'

const custom_nodes = ['one', 'two'].map((name) => ({ git: `https://host/${name}.git`, ref: 'main' }))
const manifestWith = (more: Record<string, unknown>): Manifest =>
  Manifest.parse({ version: 1, name: 'nodes', custom_nodes, ...more })

test.each([
  { where: 'in the ComfyUI that runs', folder: '/run/custom_nodes', runs: true, models_root: '/w/models' },
  {
    where: 'beside the models of a ComfyUI',
    folder: '/w/custom_nodes',
    runs: false,
    models_root: '/w/models',
  },
  { where: 'nowhere without either', folder: undefined, runs: false, models_root: '/data' },
])('custom nodes go $where', ({ folder, runs, models_root }) => {
  const processes = runs ? { ui: { kind: 'comfyui', working_dir: '/run' } } : {}
  expect(nodesFolder(manifestWith({ processes, models_root }))).toBe(folder)
})

test('custom nodes without a place are an error of the plan, never left out', async () => {
  const signal = new AbortController().signal
  const unused = (): never => {
    throw new Error('nothing is asked of Python')
  }
  const python = { plan: unused, prepare: unused, packages: unused, cloneNodes: unused, runScripts: unused }
  const { problems } = await planEnvironment(manifestWith({}), { rooms: { python }, signal })
  expect(problems).toMatchObject([
    { code: 'invalid_manifest', severity: 'error', subject: 'one', subjects: ['two'] },
  ])
})
