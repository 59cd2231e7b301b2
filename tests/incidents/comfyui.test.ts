import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Problem, RunRecord, StatusRecord, WorkflowReport } from '../../shared/contract/records.ts'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { freePort, makeComfyUI, nodeModule } from '../support/comfyui/stand-in.ts'

/* What went wrong with ComfyUI on rented boxes, as a user of agentd and agentctl meets it now. */

const agent = await startAgentForFile()
const { home } = agent

const applyComfyUI = async (spec: Readonly<Record<string, unknown>>, flags: readonly string[] = []) => {
  const manifest = join(home, 'manifest.yaml')
  const comfyui = { kind: 'comfyui', working_dir: join(home, 'ComfyUI'), ...spec }
  writeFileSync(manifest, JSON.stringify({ version: 1, name: 'video', processes: { comfyui } }))
  const { code, stdout } = await agent.agentctl(['apply', manifest, '--json', ...flags])
  return { code, answer: JSON.parse(stdout) as { run?: RunRecord; error?: { problems: Problem[] } } }
}

const status = async (): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

const depth = { type: 'DepthAnything_V2', properties: { cnr_id: 'comfyui-depth' } }
const loader = { type: 'CheckpointLoaderSimple', widgets_values: ['wan.safetensors'] }
const WORKFLOW = JSON.stringify({ nodes: [depth, loader] })

test('incident A6: nodes and models that nothing brings are told by the plan, and nothing is started', async () => {
  const workflow = join(home, 'ComfyUI', 'wan.json')
  makeComfyUI(join(home, 'ComfyUI'), { 'wan.json': WORKFLOW })
  const spec = { port: await freePort(), workflows: [workflow], stop: { timeout: '2s' } }
  const refused = await applyComfyUI(spec)
  expect(refused.code).toBe(3)
  expect(refused.answer.error?.problems).toMatchObject([
    {
      code: 'workflow_node_missing',
      severity: 'error',
      subject: 'DepthAnything_V2',
      at: { line: 1 },
      hint: 'Add the pack comfyui-depth to custom_nodes.',
    },
    { code: 'workflow_model_missing', severity: 'error', subject: 'wan.safetensors' },
  ])
  expect((await status()).processes).toEqual([])

  // What is named may be left out: the box then says on every status that it is not whole.
  const without = await applyComfyUI(spec, ['--allow-missing', workflow])
  expect(without.answer.run?.state).toBe('degraded')
})

test('incident A6: a ComfyUI without the nodes and models of its workflow is not ready, and the list says what is missing', async () => {
  const workflow = join(home, 'ComfyUI', 'wan.json')
  // A pack that nobody knows, and models in other folders: only ComfyUI itself can tell.
  makeComfyUI(join(home, 'ComfyUI'), {
    'wan.json': WORKFLOW,
    'custom_nodes/unknown/__init__.py': nodeModule('Other'),
    'extra_model_paths.yaml': '',
  })
  const spec = { port: await freePort(), workflows: [workflow], stop: { timeout: '2s' } }
  const { code, answer } = await applyComfyUI(spec)
  expect(code).toBe(1)
  expect(answer.run?.state).toBe('failed')
  expect(answer.run?.problems.filter(({ severity }) => severity === 'error')).toMatchObject([
    {
      code: 'workflow_node_missing',
      subject: 'DepthAnything_V2',
      hint: 'Add the pack comfyui-depth to custom_nodes.',
    },
    { code: 'workflow_model_missing', subject: 'wan.safetensors' },
  ])
  expect((await status()).healthy).toBe(false)

  const check = await agent.agentctl(['workflow', 'check', workflow])
  expect(check.code).toBe(1)
  expect(check.stdout).toMatch(/DepthAnything_V2 +comfyui-depth +missing/)
  expect(check.stdout).toMatch(/wan\.safetensors +- +CheckpointLoaderSimple +missing/)

  makeComfyUI(join(home, 'ComfyUI'), {
    'custom_nodes/comfyui-depth/__init__.py': nodeModule('DepthAnything_V2'),
    'models/checkpoints/wan.safetensors': 'weights',
  })
  expect((await agent.agentctl(['restart', 'comfyui'])).code).toBe(0)
  expect((await applyComfyUI(spec)).answer.run).toMatchObject({ state: 'ready', problems: [] })
  const whole = await agent.agentctl(['workflow', 'check', workflow, '--json'])
  expect(whole.code).toBe(0)
  expect((JSON.parse(whole.stdout) as WorkflowReport).problems).toEqual([])
})

test('a workflow in an image is read, and one that is none is refused', async () => {
  const image = join(home, 'wan.png')
  const workflow = JSON.stringify({ 1: { class_type: 'NodeOfNobody', inputs: {} } })
  writeFileSync(image, pngWith('prompt', workflow))
  const check = await agent.agentctl(['workflow', 'check', image, '--json'])
  expect(check.code).toBe(1)
  expect(JSON.parse(check.stdout)).toMatchObject({ nodes: [{ name: 'NodeOfNobody', present: false }] })
  writeFileSync(image, pngWith('comment', 'hello'))
  expect((await agent.agentctl(['workflow', 'check', image])).stderr).toContain('an image without a workflow')
  expect((await agent.agentctl(['workflow', 'check', join(home, 'manifest.yaml')])).stderr).toContain(
    'neither a workflow of the editor nor one of the API',
  )
})

test('incident A7: ComfyUI listens on loopback alone, and arguments that would open it are refused', async () => {
  mkdirSync(join(home, 'ComfyUI'), { recursive: true })
  for (const args of [['--listen', '0.0.0.0'], ['--enable-cors-header']]) {
    const { code, answer } = await applyComfyUI({ args })
    expect(code).toBe(3)
    expect(answer.error?.problems).toMatchObject([{ code: 'invalid_manifest', subject: 'comfyui' }])
  }
  const port = await freePort()
  expect((await applyComfyUI({ port })).code).toBe(0)
  const inHex = port.toString(16).toUpperCase().padStart(4, '0')
  const listeners = ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((table) => readFileSync(table, 'utf8').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(`:${inHex}`) && state === '0A')
    .map(([, local]) => local)
  expect(listeners).toEqual([`0100007F:${inHex}`])
})

/** A PNG file with one text in it; nothing reads its picture. */
const pngWith = (keyword: string, text: string): Buffer => {
  const chunk = (type: string, data: Buffer): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(data.length)
    return Buffer.concat([length, Buffer.from(type), data, Buffer.alloc(4)])
  }
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', Buffer.alloc(13)),
    chunk('tEXt', Buffer.from(`${keyword}\0${text}`)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}
