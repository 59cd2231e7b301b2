import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { planJobs } from '../../../agent/processes/planned-process.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'
import { freePort, makeComfyUI, nodeModule } from '../../support/comfyui/stand-in.ts'
import { forever, jobFolder, makeHome, startRoom, until } from './kit.ts'

const signal = forever()
const SYSTEM_PATH = process.env['PATH'] ?? ''

type Node = { folder: string; optional: boolean; origin: string }

const planComfyUI = (
  spec: Readonly<Record<string, unknown>>,
  customNodes: readonly Node[] = [],
  interpreter: string | null = null,
) =>
  planJobs('comfyui', ProcessSpec.parse({ kind: 'comfyui', restart: 'never', ...spec }), {
    interpreter,
    binFolder: null,
    environment: {},
    searchPath: SYSTEM_PATH,
    customNodes,
  })

const node = (folder: string, optional = false): Node => ({ folder, optional, origin: `${folder}@1` })

const editorWorkflow = {
  nodes: [
    { id: 1, type: 'CheckpointLoaderSimple', mode: 0, widgets_values: ['sd/base.safetensors'] },
    { id: 2, type: 'Note', widgets_values: ['anything.safetensors'] },
    { id: 3, type: 'Broken', mode: 4 },
    {
      id: 4,
      type: 'LoraLoader',
      widgets_values: ['style.safetensors', 1],
      properties: {
        models: [
          { name: 'style.safetensors', directory: 'loras', url: 'https://hub.test/style.safetensors' },
          { name: 'an-earlier-choice.safetensors', directory: 'loras', url: 'https://hub.test/x' },
        ],
      },
    },
    { id: 5, type: '11111111-2222-3333-4444-555555555555' },
    { id: 6, type: 'workflow>upscale' },
  ],
  definitions: {
    subgraphs: [
      {
        id: '11111111-2222-3333-4444-555555555555',
        nodes: [{ id: 9, type: 'DepthNode', properties: { cnr_id: 'comfyui-depth' } }],
      },
    ],
  },
  extra: {
    groupNodes: {
      upscale: { nodes: [{ type: 'Upscaler', properties: { aux_id: 'somebody/Upscale-Pack' } }] },
    },
  },
}

test('a workflow’s missing nodes and models keep ComfyUI from being ready, each with the pack that brings it', async () => {
  const home = makeHome()
  const workflow = join(home, 'ComfyUI', 'wan.json')
  const folder = makeComfyUI(join(home, 'ComfyUI'), { 'wan.json': JSON.stringify(editorWorkflow) })
  const { processes } = startRoom(home)
  const plan = planComfyUI({ working_dir: folder, port: await freePort(), workflows: [workflow] })
  const [outcome] = await processes.apply(plan, { signal })
  expect(outcome).toMatchObject({
    state: 'running',
    problem: { code: 'process_not_ready', severity: 'error' },
  })
  expect(outcome?.findings).toMatchObject([
    {
      code: 'workflow_node_missing',
      subject: 'DepthNode',
      message: `${workflow} needs the node DepthNode of the pack comfyui-depth, which is not there`,
      hint: 'Add the pack comfyui-depth to custom_nodes.',
    },
    {
      code: 'workflow_node_missing',
      subject: 'Upscaler',
      hint: expect.stringContaining('Upscale-Pack') as string,
    },
    { code: 'workflow_model_missing', subject: 'sd/base.safetensors' },
    {
      code: 'workflow_model_missing',
      subject: 'style.safetensors',
      message: `${workflow} needs the model style.safetensors in loras for LoraLoader, which is not there`,
      hint: 'Add it to downloads; the workflow names https://hub.test/style.safetensors.',
    },
  ])
  expect(processes.row('comfyui').problem?.message).toContain('DepthNode')

  // What was missing is brought, and the same manifest applied again: models need no restart.
  for (const file of ['checkpoints/sd/base.safetensors', 'loras/style.safetensors']) {
    mkdirSync(join(folder, 'models', file, '..'), { recursive: true })
    writeFileSync(join(folder, 'models', file), 'weights')
  }
  const { pid } = processes.row('comfyui')
  const [again] = await processes.apply(plan, { signal })
  expect(again).toMatchObject({ action: 'kept', state: 'running' })
  expect(again?.findings?.map(({ subject }) => subject)).toEqual(['DepthNode', 'Upscaler'])
  writeFileSync(workflow, JSON.stringify({ ...editorWorkflow, nodes: editorWorkflow.nodes.slice(0, 4) }))
  const [healed] = await processes.apply(plan, { signal })
  expect(healed).toMatchObject({ action: 'kept', state: 'ready', problem: null, findings: [] })
  expect(processes.row('comfyui')).toMatchObject({ state: 'ready', pid })
  rmSync(join(folder, 'models', 'loras', 'style.safetensors'))
  writeFileSync(
    workflow,
    JSON.stringify({ 1: { class_type: 'LoraLoader', inputs: { lora_name: 'style.safetensors' } } }),
  )
  expect(await processes.apply(plan, { signal })).toMatchObject([
    { state: 'running', findings: [{ subject: 'style.safetensors' }] },
  ])
})

test('a required custom node that fails to import is an error, an optional one a warning, and each reason is told', async () => {
  const home = makeHome()
  const folder = makeComfyUI(join(home, 'ComfyUI'), {
    'custom_nodes/Good/__init__.py': nodeModule('GoodNode'),
    'custom_nodes/Broken/__init__.py': 'import a_package_that_is_not_there',
    'custom_nodes/Empty/__init__.py': 'x = 1',
    'custom_nodes/Early/__init__.py': nodeModule('EarlyNode'),
    'custom_nodes/Early/prestartup_script.py': 'raise RuntimeError("too early")',
    'custom_nodes/Image-Own/__init__.py': '1 / 0',
    'custom_nodes/Off.disabled/__init__.py': '1 / 0',
  })
  const { processes } = startRoom(home)
  const nodes = [node('Good'), node('Broken'), node('Empty', true), node('Early'), node('Off')]
  const plan = planComfyUI({ working_dir: folder, port: await freePort() }, nodes)
  const [outcome] = await processes.apply(plan, { signal })
  // It answers and can be looked at, and is failed all the same: only another start can import them.
  expect(outcome).toMatchObject({ state: 'failed', problem: { code: 'process_not_ready' } })
  expect(outcome?.problem?.message).toContain('the custom node Broken failed to import')
  const { pid } = processes.row('comfyui')
  expect(pid).not.toBeNull()
  const told = outcome?.findings?.map(({ severity, code, subject, message }) => [
    severity,
    code,
    subject,
    message,
  ])
  expect(told).toEqual([
    [
      'error',
      'custom_node_failed',
      'Early',
      'the prestartup script of the custom node Early failed: too early',
    ],
    [
      'error',
      'custom_node_failed',
      'Broken',
      "the custom node Broken failed to import: No module named 'a_package_that_is_not_there'",
    ],
    [
      'warning',
      'custom_node_failed',
      'Empty',
      'the custom node Empty brings no nodes: it has no NODE_CLASS_MAPPINGS',
    ],
    ['warning', 'import_failed', 'Image-Own', 'the custom node Image-Own failed to import: division by zero'],
    ['error', 'custom_node_failed', 'Off', 'ComfyUI did not load the custom node Off'],
  ])

  for (const name of ['Broken', 'Off', 'Early']) {
    makeComfyUI(folder, { [`custom_nodes/${name}/__init__.py`]: nodeModule(`${name}Node`) })
    rmSync(join(folder, 'custom_nodes', name, 'prestartup_script.py'), { force: true })
  }
  expect(await processes.apply(plan, { signal })).toMatchObject([{ action: 'restarted', state: 'ready' }])
  expect(processes.row('comfyui').pid).not.toBe(pid)
})

test('a ComfyUI whose optional nodes fail is ready; a workflow’s node is missing because its pack failed to import', async () => {
  const home = makeHome()
  const folder = makeComfyUI(join(home, 'ComfyUI'), {
    'custom_nodes/Broken/__init__.py': 'import a_package_that_is_not_there',
    'wan.json': JSON.stringify({ nodes: [{ type: 'Fancy', properties: { cnr_id: 'broken' } }] }),
  })
  const { processes } = startRoom(home)
  const port = await freePort()
  const [first] = await processes.apply(planComfyUI({ working_dir: folder, port }, [node('Broken', true)]), {
    signal,
  })
  expect(first).toMatchObject({
    state: 'ready',
    problem: null,
    findings: [{ severity: 'warning', subject: 'Broken' }],
  })
  const report = await processes.checkWorkflow(
    { text: readFileSync(join(folder, 'wan.json'), 'utf8'), file: 'wan.json', process: null },
    { signal },
  )
  expect(report).toMatchObject({
    process: 'comfyui',
    nodes: [{ name: 'Fancy', pack: 'broken', present: false }],
    problems: [{ message: expect.stringContaining('failed to import: No module named') as string }],
  })
})

test.each([
  { title: 'is passed where that version knows it', faults: {}, expected: true },
  { title: 'is left out where it does not exist', faults: { no_auto_launch_flag: true }, expected: false },
])('--disable-auto-launch $title', async ({ faults, expected }) => {
  const home = makeHome()
  const folder = makeComfyUI(join(home, 'ComfyUI'), { 'faults.json': JSON.stringify(faults) })
  const { processes } = startRoom(home)
  const plan = planComfyUI({ working_dir: folder, port: await freePort() })
  expect(await processes.apply(plan, { signal })).toMatchObject([{ state: 'ready' }])
  const spec = JSON.parse(readFileSync(join(jobFolder(home, 'comfyui'), 'spec.json'), 'utf8')) as {
    argv: string[]
  }
  expect(spec.argv.includes('--disable-auto-launch')).toBe(expected)
})

test.each([
  { title: 'never listens', faults: { never_ready: true } },
  { title: 'listens and hangs', faults: { hang: true } },
])('a ComfyUI that $title is not ready, and that is told', async ({ faults }) => {
  const home = makeHome()
  const port = await freePort()
  const folder = makeComfyUI(join(home, 'ComfyUI'), { 'faults.json': JSON.stringify(faults) })
  const { processes } = startRoom(home)
  const ready = { http: `http://127.0.0.1:${port}/system_stats`, within: '3s' }
  const [outcome] = await processes.apply(planComfyUI({ working_dir: folder, port, ready }), { signal })
  expect(outcome).toMatchObject({ state: 'running', problem: { code: 'process_not_ready' } })
})

const real = process.env['COMFYUI_DIR']

test.skipIf(real === undefined || !existsSync(real))(
  'a real ComfyUI proves its nodes and models (skipped unless COMFYUI_DIR and COMFYUI_PYTHON name one)',
  async () => {
    const home = makeHome()
    const workflow = join(home, 'needs.json')
    writeFileSync(
      workflow,
      JSON.stringify({
        1: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'not-there.safetensors' } },
        2: { class_type: 'KSampler', inputs: {} },
        3: { class_type: 'NodeOfNobody', inputs: {} },
      }),
    )
    const { processes } = startRoom(home)
    const port = await freePort()
    const plan = planComfyUI(
      { working_dir: real, port, args: ['--cpu'], workflows: [workflow] },
      [],
      process.env['COMFYUI_PYTHON'] ?? null,
    )
    const [outcome] = await processes.apply(plan, { signal })
    expect(outcome?.findings?.filter(({ severity }) => severity === 'error')).toMatchObject([
      { code: 'workflow_node_missing', subject: 'NodeOfNobody' },
      { code: 'workflow_model_missing', subject: 'not-there.safetensors' },
    ])
    const spec = JSON.parse(readFileSync(join(jobFolder(home, 'comfyui'), 'spec.json'), 'utf8')) as {
      argv: string[]
    }
    expect(spec.argv).toContain('--disable-auto-launch')
  },
)

test.skipIf(real === undefined || !existsSync(real))(
  'a real ComfyUI goes from starting to ready and tells its queue; with a broken custom node it is failed, and the node is named (skipped unless COMFYUI_DIR and COMFYUI_PYTHON name one)',
  async () => {
    const { processes, events } = startRoom(makeHome())
    const spec = { working_dir: real, port: await freePort(), args: ['--cpu'] }
    const python = process.env['COMFYUI_PYTHON'] ?? null
    expect(await processes.apply(planComfyUI(spec, [], python), { signal })).toMatchObject([
      { state: 'ready' },
    ])
    const states = events.filter(({ type }) => type === 'process.state').map(({ data }) => data?.['state'])
    expect(states).toEqual(['starting', 'ready'])
    await until(() => processes.row('comfyui').queue !== null)
    expect(processes.row('comfyui').queue).toEqual({ remaining: 0, progress: null })

    const broken = join(real ?? '', 'custom_nodes', 'gpu-agent-broken')
    onTestFinished(() => rmSync(broken, { recursive: true, force: true }))
    mkdirSync(broken)
    writeFileSync(join(broken, '__init__.py'), 'import a_package_that_is_not_there')
    const [outcome] = await processes.apply(planComfyUI(spec, [node('gpu-agent-broken')], python), { signal })
    expect(outcome).toMatchObject({
      action: 'restarted',
      state: 'failed',
      problem: {
        message: expect.stringContaining('the custom node gpu-agent-broken failed to import') as string,
      },
    })
  },
)
