import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkWorkflows } from '../../../agent/preflight/check-workflows.ts'
import { locateFiles } from '../../../agent/preflight/locate-files.ts'
import type { AskRunning } from '../../../agent/preflight/workflow-facts.ts'
import { gatherWorkflows } from '../../../agent/preflight/workflow-facts.ts'
import { AgentError } from '../../../shared/contract/errors.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'
import { makeComfyUI, nodeModule } from '../../support/comfyui/stand-in.ts'

let folder: string
let comfyui: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'workflows-'))
  comfyui = join(folder, 'ComfyUI')
})
afterEach(() => rmSync(folder, { recursive: true }))

const nobodyRuns: AskRunning = () => Promise.reject(new AgentError('not_found', 'no ComfyUI runs'))

/** What a plan says of the workflow wan.json with these nodes, on a ComfyUI with these files. */
const planOf = async (
  nodes: readonly unknown[] | Readonly<Record<string, unknown>>,
  world: {
    readonly files?: Readonly<Record<string, string>>
    readonly manifest?: Readonly<Record<string, unknown>>
    readonly args?: readonly string[]
    readonly askRunning?: AskRunning
  } = {},
) => {
  const workflow = join(folder, 'ComfyUI', 'wan.json')
  const text = JSON.stringify(Array.isArray(nodes) ? { nodes } : nodes)
  makeComfyUI(comfyui, { 'wan.json': text, ...world.files })
  const spec = { kind: 'comfyui', working_dir: comfyui, workflows: [workflow], args: world.args ?? [] }
  const { manifest } = parseManifest(
    JSON.stringify({
      version: 1,
      name: 'video',
      models_root: join(comfyui, 'models'),
      processes: { comfyui: spec },
      ...world.manifest,
    }),
    { file: 'm.yaml' },
  )
  const files = locateFiles(manifest)
  const facts = await gatherWorkflows(
    { manifest, files },
    { askRunning: world.askRunning ?? nobodyRuns, signal: new AbortController().signal },
  )
  const downloads = new Set(files.map(({ path }) => path))
  const { problems, unchecked } = checkWorkflows({ manifest, downloads, placeOf: () => undefined }, facts)
  return {
    told: problems.map(({ severity, code, subject }) => `${severity} ${code} ${subject}`),
    messages: problems.map(({ message }) => message.replaceAll(folder, '')),
    hints: problems.map(({ hint }) => hint.replaceAll(folder, '')),
    unchecked: unchecked.map((what) => what.replaceAll(folder, '')),
  }
}

const DEPTH = { type: 'DepthAnything_V2', properties: { cnr_id: 'comfyui-depth' } }
const CHECKPOINT = { type: 'CheckpointLoaderSimple', widgets_values: ['wan.safetensors'] }
const download = (to: string) => ({ downloads: [{ to, from: ['hf://a/b@main/x.safetensors'] }] })
const git = (address: string) => ({ git: address, ref: 'a'.repeat(40) })
const loadedBy = (node: string) => ({
  files: { [`custom_nodes/${node}/__init__.py`]: nodeModule('DepthAnything_V2') },
})

test('ComfyUI’s own nodes and models that lie there are fine', async () => {
  const plan = await planOf([{ type: 'KSampler' }, { type: 'Note' }, CHECKPOINT], {
    files: { 'models/checkpoints/wan.safetensors': 'weights' },
  })
  expect(plan).toMatchObject({ told: [], unchecked: [] })
})

test('a node that nothing brings is an error with its pack', async () => {
  const plan = await planOf([DEPTH, { ...DEPTH, type: 'DepthViewer' }])
  expect(plan.told).toEqual(['error workflow_node_missing DepthAnything_V2'])
  expect(plan.messages).toEqual([
    '/ComfyUI/wan.json needs the nodes DepthAnything_V2, DepthViewer of the pack comfyui-depth, which nothing in custom_nodes and nothing on the box brings',
  ])
  expect(plan.hints).toEqual(['Add the pack comfyui-depth to custom_nodes.'])
})

test('a node of a pack that is going to be cloned is said to be unchecked, however the registry spells its name', async () => {
  const custom_nodes = [git('https://github.com/someone/ComfyUI_Depth.git')]
  const plan = await planOf([DEPTH], { manifest: { custom_nodes } })
  expect(plan.told).toEqual([])
  expect(plan.unchecked).toEqual([
    '/ComfyUI/wan.json: whether ComfyUI_Depth brings DepthAnything_V2; its ComfyUI tells when it has loaded it',
  ])
})

test('a node that a pack on the box names is there, whatever that pack is called', async () => {
  expect(await planOf([DEPTH], loadedBy('renamed'))).toMatchObject({ told: [], unchecked: [] })
})

test('a pack that the workflow names is no candidate for the nodes of another; an unknown one may bring them', async () => {
  const named = { type: 'Sharpen', properties: { aux_id: 'someone/ComfyUI-Sharp' } }
  const custom_nodes = [git('https://github.com/someone/ComfyUI-Sharp')]
  expect((await planOf([DEPTH, named], { manifest: { custom_nodes } })).told).toEqual([
    'error workflow_node_missing DepthAnything_V2',
  ])
  const more = [...custom_nodes, git('https://github.com/someone/unknown')]
  const plan = await planOf([DEPTH, named], { manifest: { custom_nodes: more } })
  expect(plan.told).toEqual(['warning workflow_node_missing DepthAnything_V2'])
  expect(plan.messages[0]).toContain('unknown may bring it, or nothing does')
})

test('a workflow of the API, which names no packs, is checked by its classes', async () => {
  const api = { 1: { class_type: 'Stranger', inputs: {} }, 2: { class_type: 'KSampler', inputs: {} } }
  expect((await planOf(api)).told).toEqual(['error workflow_node_missing Stranger'])
  const files = { 'custom_nodes/pack/__init__.py': '' }
  expect((await planOf(api, { files })).told).toEqual(['warning workflow_node_missing Stranger'])
})

test('a ComfyUI that runs is the best witness', async () => {
  const report = {
    file: 'wan.json',
    process: 'comfyui',
    nodes: [{ name: 'DepthAnything_V2', pack: null, present: true }],
    models: [
      { name: 'wan.safetensors', folder: null, node: 'CheckpointLoaderSimple', url: null, present: true },
    ],
    problems: [],
  }
  const plan = await planOf([DEPTH, CHECKPOINT], { askRunning: () => Promise.resolve(report) })
  expect(plan).toMatchObject({ told: [], unchecked: [] })
})

test('a model that no download brings is an error; one that goes to another folder is told with the right one', async () => {
  const none = await planOf([CHECKPOINT])
  expect(none.told).toEqual(['error workflow_model_missing wan.safetensors'])
  expect(none.messages).toEqual([
    '/ComfyUI/wan.json needs the model wan.safetensors for CheckpointLoaderSimple, which is not in /ComfyUI/models/checkpoints, and no download brings it',
  ])
  const other = await planOf([CHECKPOINT], { manifest: download('diffusion_models/wan.safetensors') })
  expect(other.told).toEqual(['error workflow_model_missing wan.safetensors'])
  expect(other.hints).toEqual([
    'Correct its destination under downloads to /ComfyUI/models/checkpoints/wan.safetensors.',
  ])
  expect((await planOf([CHECKPOINT], { manifest: download('checkpoints/wan.safetensors') })).told).toEqual([])
  const unet = { type: 'UNETLoader', widgets_values: ['wan.safetensors', 'default'] }
  expect((await planOf([unet], { manifest: download('unet/wan.safetensors') })).told).toEqual([])
})

test('models that go to a folder ComfyUI does not look into are told; with its models folder linked there they are fine', async () => {
  const models = join(folder, 'data')
  mkdirSync(models)
  const manifest = { models_root: models, ...download('checkpoints/wan.safetensors') }
  expect((await planOf([CHECKPOINT], { manifest })).told).toEqual([
    'error workflow_model_missing wan.safetensors',
  ])
  symlinkSync(models, join(comfyui, 'models'))
  expect((await planOf([CHECKPOINT], { manifest })).told).toEqual([])
})

test('where ComfyUI was told to look elsewhere too, or a pack has its own ways, a missing model is a warning', async () => {
  const warning = ['warning workflow_model_missing wan.safetensors']
  const files = { 'extra_model_paths.yaml': 'other: {base_path: /data}' }
  expect((await planOf([CHECKPOINT], { args: ['--base-directory', '/data'] })).told).toEqual(warning)
  expect((await planOf([CHECKPOINT], { files })).told).toEqual(warning)
  rmSync(comfyui, { recursive: true })
  const own = { ...DEPTH, widgets_values: ['wan.safetensors'] }
  expect((await planOf([own], loadedBy('depth'))).told).toEqual(warning)
})

test('a workflow that is not there, or is none, is told; one that is fetched first is unchecked', async () => {
  const workflow = join(folder, 'elsewhere', 'flow.json')
  const processes = { comfyui: { kind: 'comfyui', working_dir: comfyui, workflows: [workflow] } }
  const manifest = { processes }
  expect((await planOf([], { manifest })).told).toEqual([`error workflow_invalid ${workflow}`])
  expect(await planOf([], { manifest: { processes, ...download(workflow) } })).toMatchObject({
    told: [],
    unchecked: ['/elsewhere/flow.json: its nodes and models, until it is fetched'],
  })
  expect((await planOf([], { files: { 'wan.json': 'no JSON' } })).told).toEqual([
    `error workflow_invalid ${join(comfyui, 'wan.json')}`,
  ])
})
